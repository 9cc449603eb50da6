"""A range of an object as a file, read block by block."""

from __future__ import annotations

import collections
import io
import os
from typing import Any

from pal_ds.storage.objects import read_range

_BLOCKS_KEPT = 4


class RangeFile(io.RawIOBase):
    """Bytes ``[offset, offset + length)`` of an object as a seekable file.

    A few blocks are kept, so that short jumps cost no request; memory stays under five blocks whatever the size of
    the object.

    Args:
        url: the object.
        offset: its first byte that counts.
        length: bytes from there.
        block_bytes: what is read at a time.
    """

    def __init__(self, url: str, offset: int, length: int, *, block_bytes: int) -> None:
        super().__init__()
        self._block_bytes = block_bytes
        self._url = url
        self._offset = offset
        self._length = length
        self._position = 0
        self._blocks: collections.OrderedDict[int, bytes] = collections.OrderedDict()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position as ``io.IOBase.seek`` does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` from the position up to the end of a block; 0 at the end of the range."""
        view = memoryview(buffer).cast("B")
        if self._position >= self._length or not len(view):
            return 0
        number, start = divmod(self._position, self._block_bytes)
        piece = self._block(number)[start : start + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            first = self._offset + number * self._block_bytes
            last = min(first + self._block_bytes, self._offset + self._length)
            self._blocks[number] = read_range(self._url, first, last)
            while len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
