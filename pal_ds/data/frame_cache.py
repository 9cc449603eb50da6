"""Decoded frames kept on a local disk, so that later epochs need not decode (``data.cache_frames``)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pal_ds.data.clip_cache import CacheSpec
from pal_ds.data.decode import decode_frames
from pal_ds.formats.shardset import SampleRecord
from pal_ds.storage.disk_cache import DiskCache

#: A CRC-32 a frame stands before the frames.
_CHECK = np.dtype("<u4")


class FrameCache:
    """One worker's way to the decoded frames of its host.

    A clip's frames are known by the SHA-256 of its video, whichever set and shard it lies in. A clip that has no
    place is decoded as without a cache: only the frames that are asked for.
    """

    def __init__(self, spec: CacheSpec) -> None:
        self._disk = DiskCache(Path(spec.folder).expanduser(), spec.limit_bytes)

    def frames(self, video: bytes, record: SampleRecord, indices: Sequence[int]) -> Tensor:
        """Return frames of one clip in the order given, from the disk or by decoding.

        Args:
            video: the encoded file, whose SHA-256 is the record's.
            record: what the shard set says of it.
            indices: frame numbers; repeats are allowed.

        Returns:
            uint8 [len(indices), height, width, 3]: the pixels of :func:`decode_frames`.

        Raises:
            ClipDecodeError: it can't be decoded, or is not what the record says.
        """
        name = _name(record)
        held = self._disk.mapped(name)
        if held is not None:
            found = _read(held, record, np.asarray(indices))
            if found is not None:
                return found
            self._disk.drop(name)
        piece = self._disk.fill(name, _length(record), lambda: _piece(video, record))
        if piece is None:
            return decode_frames(video, record, indices)
        return _frames(piece, record)[torch.as_tensor(indices)]

    def close(self) -> None:
        """Let go of it."""
        self._disk.close()


def _name(record: SampleRecord) -> str:
    shape = f"{record.sha256} {record.frames} {record.height} {record.width}"
    return hashlib.blake2b(shape.encode(), key=b"frames", digest_size=16).hexdigest()


def _length(record: SampleRecord) -> int:
    return record.frames * (_CHECK.itemsize + 3 * record.height * record.width)


def _piece(video: bytes, record: SampleRecord) -> bytes:
    """Decode a whole clip, and put the check of each frame before the frames."""
    frames = decode_frames(video, record, range(record.frames)).numpy().reshape(record.frames, -1)
    checks = np.array([zlib.crc32(frame.data) for frame in frames], dtype=_CHECK)
    return checks.tobytes() + frames.tobytes()


def _frames(piece: bytes, record: SampleRecord) -> Tensor:
    pixels = np.frombuffer(piece, np.uint8, offset=record.frames * _CHECK.itemsize)
    return torch.from_numpy(pixels.reshape(record.frames, record.height, record.width, 3).copy())


def _read(held: memoryview, record: SampleRecord, indices: NDArray[np.int64]) -> Tensor | None:
    """Copy frames out of a mapped piece; None where one of them is damaged."""
    if len(held) != _length(record):
        return None
    checks = np.frombuffer(held, _CHECK, count=record.frames)
    pixels = np.frombuffer(held, np.uint8, offset=checks.nbytes).reshape(record.frames, -1)
    taken = pixels[indices]
    if any(zlib.crc32(frame.data) != check for frame, check in zip(taken, checks[indices], strict=True)):
        return None
    return torch.from_numpy(taken.reshape(-1, record.height, record.width, 3))
