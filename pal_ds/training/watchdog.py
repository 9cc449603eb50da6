"""A stalled job ends by itself, and says which rank it waited for (DESIGN.md §5).

Each rank writes its step into the process group's key-value store as it goes; a thread on every rank looks at its
own rank's progress only, and when that stands still reads the others' steps to name the one that is behind.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from pal_ds.training.ranks import Ranks

log = logging.getLogger(__name__)


class Watchdog:
    """Ends the process with status 1 when no step is made for ``seconds``.

    Args:
        ranks: this process's place.
        seconds: the longest time between two beats that is borne.
        on_stall: called with the message before the process ends (writes the status on rank 0).
    """

    def __init__(self, ranks: Ranks, seconds: float, on_stall: Callable[[str], None]) -> None:
        self._ranks = ranks
        self._seconds = seconds
        self._on_stall = on_stall
        self._last = time.monotonic()
        self._progress = "start"
        self._stop = threading.Event()
        self._store: Any = None
        if ranks.world_size > 1:
            self._store = dist.distributed_c10d._get_default_store()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._last = time.monotonic()
        self._thread.start()

    def beat(self, progress: str, step: int) -> None:
        """Note that this rank goes on; ``progress`` says with what."""
        self._last = time.monotonic()
        self._progress = f"{progress} of step {step}"
        if self._store is not None:
            self._store.set(f"pal/progress/{self._ranks.rank}", f"{step} {progress}")

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(min(5.0, self._seconds / 4)):
            idle = time.monotonic() - self._last
            if idle > self._seconds and not self._stop.is_set():
                message = (
                    f"no progress for {idle:.0f} s: rank {self._ranks.rank} waits in {self._progress}; "
                    + (self._others())
                )
                log.critical(message)
                try:
                    self._on_stall(message)
                finally:
                    os._exit(1)

    def _others(self) -> str:
        if self._store is None:
            return "there is no other rank"
        steps: dict[int, str] = {}
        for rank in range(self._ranks.world_size):
            key = f"pal/progress/{rank}"
            try:
                steps[rank] = self._store.get(key).decode() if self._store.check([key]) else "-1 nothing"
            except Exception as error:
                return f"the other ranks' progress can't be read ({type(error).__name__})"
        behind = min(steps, key=lambda rank: (int(steps[rank].split()[0]), rank))
        step, progress = steps[behind].split(maxsplit=1)
        return f"rank {behind} is furthest behind, last seen in {progress} of step {step}"
