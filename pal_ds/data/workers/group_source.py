"""Where finished groups come from: the interface, and groups built in the calling process itself."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor

from pal_ds.data.synthesis.group_builder import Built
from pal_ds.data.workers.worker_process import Chain, WorkerSpec
from pal_ds.storage import ReadCounters


@dataclasses.dataclass(frozen=True)
class Taken:
    """A group handed to the loader.

    Attributes:
        built: the group and what it cost; pixels lie in the slot.
        counts: what was read for it.
        worker: who built it.
        slot: where it lies.
    """

    built: Built
    counts: ReadCounters
    worker: int = 0
    slot: int = 0


class Source(Protocol):
    """Something that gives a rank's groups in order."""

    restarts: int

    def take(self, number: int) -> Taken:
        """Return group ``number`` of the rank; numbers must rise by one."""

    def release(self, taken: Taken) -> None:
        """Say that a group's pixels are no longer needed."""

    def ready(self) -> int:
        """Return how many groups are finished and waiting."""

    def close(self) -> None:
        """End whatever runs."""


class InProcess:
    """Builds groups in the calling process when they are asked for.

    Args:
        spec: what to build.
        slot_bytes: bytes a group can need.
    """

    def __init__(self, spec: WorkerSpec, slot_bytes: int) -> None:
        self.restarts = 0
        self._slot_bytes = slot_bytes
        self._free: list[Tensor] = []
        self._current = torch.empty(0, dtype=torch.uint8)
        self._used: dict[int, Tensor] = {}
        self._chain = Chain(spec, self._slot)
        self._groups = iter(self._chain)

    def take(self, number: int) -> Taken:
        """Build and return the next group."""
        built = next(self._groups)
        self._used[number] = self._current
        return Taken(built, self._chain.new_counts(), slot=number)

    def release(self, taken: Taken) -> None:
        """Use the group's memory again."""
        self._free.append(self._used.pop(taken.slot))

    def ready(self) -> int:
        """Nothing is built ahead."""
        return 0

    def close(self) -> None:
        """Drop reads under way."""
        self._chain.close()

    def _slot(self) -> Tensor:
        self._current = self._free.pop() if self._free else torch.empty(self._slot_bytes, dtype=torch.uint8)
        return self._current
