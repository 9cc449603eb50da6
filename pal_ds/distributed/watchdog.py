"""A stalled job ends by itself, and says which rank it waited for (docs/design.md, "Failures and signals").

Two threads on every rank. One tells the process group's key-value store once a second where this rank is: step,
stage, and the line of code. The other never touches the network: it looks at this rank's progress only, and when that
stands still it has the others' reports read (a dead network must not hold it up), names the rank that is not merely
waiting for others, and ends the process.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pal_ds.distributed.ranks import Ranks

log = logging.getLogger(__name__)

_REPORT_SECONDS = 1.0
_READ_LIMIT_SECONDS = 6.0
_STATUS_LIMIT_SECONDS = 15.0
_LEAD_SECONDS = 4.0
_NAMED_AT_MOST = 8
_BUSY_LIMIT_SECONDS = 0.5
#: A main thread inside one of these waits for other ranks.
_WAITING = (
    "torch/distributed/",
    "torch/nn/modules/_functions.py",
    "deepspeed/comm/",
    "pal_ds/models/layers/sync_batchnorm.py",
    "pal_ds/distributed/ranks.py",
    "pal_ds/distributed/collectives.py",
)


@dataclasses.dataclass(frozen=True)
class Report:
    """Where a rank is: who and where it runs, how many reports it has made, its step, stage and line of code."""

    rank: int
    host: str
    count: int
    step: int
    stage: str
    line: str
    waits_for_others: bool

    def __str__(self) -> str:
        return (
            f"rank {self.rank} on {self.host}, last seen in {self.stage} of step {self.step} at {self.line}"
        )


class Watchdog:
    """Ends the process with status 1 when no beat comes for ``seconds``.

    Args:
        ranks: this process's place.
        seconds: the longest time between two beats that is borne.
        on_stall: called with the message before the process ends (writes the status on rank 0).
        device_busy: tells whether the device has work that is not done. Collectives of NCCL are such work: a rank
            whose peer does not come waits wherever its host next asks for a result, and its device stays busy. None
            takes the rank's own GPU, and nothing on a CPU, whose collectives the host itself waits in.
    """

    def __init__(
        self,
        ranks: Ranks,
        seconds: float,
        on_stall: Callable[[str], None],
        device_busy: Callable[[], bool] | None = None,
    ) -> None:
        self._ranks = ranks
        self._seconds = seconds
        self._on_stall = on_stall
        self._device_busy = device_busy
        if device_busy is None and ranks.device.type == "cuda":
            self._device_busy = functools.partial(_gpu_busy, ranks.device)
        self._main = threading.get_ident()
        self._host = socket.gethostname()
        self._count = 0
        self._beat = (time.monotonic(), "the start", 0)
        self._stop = threading.Event()
        # A connection of its own: requests of one client wait for each other, and the process group's must not.
        self._store: Any = None
        if ranks.world_size > 1:
            shared: Any = dist.distributed_c10d._get_default_store()
            self._store = shared.clone()
        self._threads = [threading.Thread(target=self._watch, name="watchdog", daemon=True)]
        if self._store is not None:
            self._threads.append(threading.Thread(target=self._tell, name="progress", daemon=True))

    def start(self) -> None:
        """Start watching."""
        self.beat("the start", self._beat[2])
        for thread in self._threads:
            thread.start()

    def beat(self, stage: str, step: int) -> None:
        """Note that this rank goes on, after ``step`` steps, with ``stage``; costs no request."""
        self._beat = (time.monotonic(), stage, step)

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _report(self) -> Report:
        _, stage, step = self._beat
        line, waits = _where(self._main)
        waits = waits or self._waits_for_device()
        return Report(self._ranks.rank, self._host, self._count, step, stage, line, waits)

    def _waits_for_device(self) -> bool:
        """Tell whether the device holds this rank up; asked only once it has stood still for a while."""
        idle = time.monotonic() - self._beat[0]
        if self._device_busy is None or idle < self._seconds / 2:
            return False
        # A question that the driver doesn't answer is no sign of a rank's own work either.
        answer = _within(_BUSY_LIMIT_SECONDS, self._device_busy)
        return answer is None or bool(answer)

    def _tell(self) -> None:
        while not self._stop.wait(min(_REPORT_SECONDS, self._seconds / 8)):
            self._count += 1
            try:
                report = dataclasses.asdict(self._report())
                self._store.set(f"pal/progress/{self._ranks.rank}", json.dumps(report))
            except Exception as error:  # the store's rank has gone: its end is told by others
                log.debug("progress not told: %s", error)
                return

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._seconds / 4)):
            idle = time.monotonic() - self._beat[0]
            if idle > self._seconds and not self._stop.is_set():
                self._end(idle)

    def silent_ranks(self) -> str:
        """Say which ranks have stopped reporting, a few seconds from now; empty where none has.

        For an error of a collective, which knows only that a connection is gone.
        """
        found = _within(_READ_LIMIT_SECONDS, self._read_twice) if self._store is not None else None
        return name_the_silent(*found) if found is not None else ""

    def _end(self, idle: float) -> None:
        found = _within(_READ_LIMIT_SECONDS, self._read_twice) if self._store is not None else None
        if self._store is None:
            verdict = str(self._report())
        elif found is None:
            verdict = (
                f"{self._report()}; the other ranks' progress can't be read: the host of the first rank is gone "
                "or out of reach"
            )
        else:
            verdict = name_the_culprits(*found)
        message = f"no progress for {idle:.0f} s: {verdict}"
        log.critical("%s (this is %s)", message, self._report())
        frame = sys._current_frames().get(self._main)
        log.critical("rank %d's stack:\n%s", self._ranks.rank, "".join(traceback.format_stack(frame)))
        if found is not None and not self._ranks.is_first:
            # The first rank writes the status; an exit here would break its collective, and its error would win.
            time.sleep(_LEAD_SECONDS)
        try:
            _within(_STATUS_LIMIT_SECONDS, lambda: self._on_stall(message))
        finally:
            os._exit(1)

    def _read_twice(self) -> tuple[list[Report | None], list[Report | None]]:
        first = self._read()
        time.sleep(2.5 * min(_REPORT_SECONDS, self._seconds / 8))
        return first, self._read()

    def _read(self) -> list[Report | None]:
        keys = [f"pal/progress/{rank}" for rank in range(self._ranks.world_size)]
        return [
            Report(**json.loads(self._store.get(key))) if self._store.check([key]) else None for key in keys
        ]


def _gpu_busy(device: torch.device) -> bool:
    """Tell whether a GPU's default stream has work under way; does not wait for it."""
    return not torch.cuda.default_stream(device).query()


def name_the_culprits(before: Sequence[Report | None], now: Sequence[Report | None]) -> str:
    """Say which ranks hold the others up, from two reports of each, some seconds apart.

    A rank whose reports have stopped is frozen or cut off; else it is one that is busy with something of its own
    while others wait for it; else the one with the fewest steps.

    Args:
        before: the older reports, None for a rank that never made one.
        now: the newer ones.
    """
    silent = name_the_silent(before, now)
    if silent:
        return silent
    pairs = [(old, new) for old, new in zip(before, now, strict=True) if old is not None and new is not None]
    busy = [new for _, new in pairs if not new.waits_for_others]
    if busy and len(busy) < len(pairs):
        return "the others wait for " + _listed([str(report) for report in busy])
    slowest = min((new for _, new in pairs), key=lambda report: (report.step, report.rank))
    return f"furthest behind is {slowest}"


def name_the_silent(before: Sequence[Report | None], now: Sequence[Report | None]) -> str:
    """Name the ranks whose reports have stopped between two readings; empty where none has."""
    names = [f"rank {rank}, which never reported" for rank, report in enumerate(now) if report is None]
    for old, new in zip(before, now, strict=True):
        if old is not None and new is not None and new.count == old.count:
            names.append(str(new))
    return "no sign of life from " + _listed(names) if names else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return "; ".join(names[:_NAMED_AT_MOST]) + more


def _where(thread: int) -> tuple[str, bool]:
    """Return the line that a thread is at, and whether it waits for other ranks there."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "its end", False
    line = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
    waits = False
    while frame is not None and not waits:
        waits = any(part in frame.f_code.co_filename for part in _WAITING)
        frame = frame.f_back
    return line, waits


def _within(seconds: float, action: Callable[[], Any]) -> Any:
    """Return what an action returns; None where it fails or takes longer than so many seconds."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(action())
        except Exception as error:
            log.warning("%s: %s", type(error).__name__, error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else None
