"""A queue from decoding threads to the encoder, bounded by bytes of pixels."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ClosedError(RuntimeError):
    """The encoder has gone: nothing more is wanted."""


class ByteChannel(Generic[T]):
    """Items with sizes; who puts waits while more than ``capacity`` bytes lie in it.

    Args:
        capacity: bytes; an item larger than that passes when the queue is empty.
        writers: threads that put and then call :meth:`leave`.
    """

    def __init__(self, capacity: int, writers: int) -> None:
        self._capacity = capacity
        self._writers = writers
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, size: int = 0) -> None:
        """Add an item, waiting for room.

        Raises:
            ClosedError: :meth:`close` was called.
        """
        with self._changed:
            while self._items and self._bytes + size > self._capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                raise ClosedError
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def get(self) -> T | None:
        """Return the next item, waiting for it; None when every writer has left and nothing is there."""
        with self._changed:
            while not self._items and self._writers:
                self._changed.wait()
            if not self._items:
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return item

    def leave(self) -> None:
        """Say that a writer puts nothing more."""
        with self._changed:
            self._writers -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Throw everything away and let nobody put."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()
