"""Anonymous shared memory that workers write groups into."""

from __future__ import annotations

import mmap
import os
from multiprocessing import reduction
from typing import Any

import torch
from torch import Tensor


class Ring:
    """Fixed-size slots in anonymous shared memory (Linux memfd).

    The memory has no name: nothing is left behind after ``kill -9``, and the size of /dev/shm, which is small in
    many containers, doesn't matter. Pages cost memory only once they are written. Handing it to a child process
    shares it.

    Args:
        slots: number of slots.
        slot_bytes: size of each.
    """

    def __init__(self, slots: int, slot_bytes: int) -> None:
        page = mmap.PAGESIZE
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // page) * page
        self._fd = os.memfd_create("pal-ring", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, self.slots * self.slot_bytes)
        self._map()

    def slot(self, number: int) -> Tensor:
        """Return one slot as flat uint8."""
        return self._memory[number * self.slot_bytes : (number + 1) * self.slot_bytes]

    @property
    def memory(self) -> Tensor:
        """All slots as flat uint8."""
        return self._memory

    def close(self) -> None:
        """Give the memory back once no tensor refers to it any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._memory = torch.empty(0, dtype=torch.uint8)

    def _map(self) -> None:
        self._memory = torch.frombuffer(mmap.mmap(self._fd, self.slots * self.slot_bytes), dtype=torch.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {"slots": self.slots, "slot_bytes": self.slot_bytes, "fd": reduction.DupFd(self._fd)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.slots, self.slot_bytes = state["slots"], state["slot_bytes"]
        self._fd = state["fd"].detach()
        self._map()
