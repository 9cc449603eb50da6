"""Reads what makes no sense again: a store that tells a wrong Content-Length cuts a file silently."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pal_ds.formats.shard_files import ShardSetError

Found = TypeVar("Found")
#: Times a file that can't be understood is read before the set is called broken.
READS = 4


def understood(read: Callable[[], Found], *, again: Callable[[ShardSetError], None]) -> Found:
    """Return what ``read`` returns, read up to four times.

    Args:
        read: reads a file and understands it.
        again: told what was wrong before it is read again.

    Raises:
        ShardSetError: what was wrong the last time.
    """
    for _ in range(READS - 1):
        try:
            return read()
        except ShardSetError as error:
            again(error)
    return read()
