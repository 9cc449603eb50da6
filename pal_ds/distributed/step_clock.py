"""How long a rank works on a step by itself: the step less its waits for other ranks.

Ranks that meet in every layer end every step together, so step times don't tell who is slow; who waits least does. In
a step whose row is going to be logged, the time spent in collectives is measured where it passes: on the device's
time line by events, on a CPU by the host's clock. Nothing is waited for: the numbers are read when the row is
written, for which the host waits anyway. Between two such steps a call costs one comparison.

Not seen are collectives inside compiled parts of a network and inside ZeRO's optimizers.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class StepClock:
    """Measures one step at a time; see the module's text.

    A GPU's time line starts after the ranks' first agreement: before it a device has nothing to do, whoever is late.
    What this rank's host did until then (waiting for its own batch) is added.
    """

    def __init__(self) -> None:
        self.running = False
        self._clear()

    def _clear(self) -> None:
        self._started = 0.0
        self._host_wait = 0.0
        self._before_agreement = 0.0
        self._host_seconds: float | None = None
        self._span: list[Any] = []
        self._waits: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        """Start to measure a step."""
        self._clear()
        self.running = True
        self._started = time.perf_counter()

    def agreed(self, device: torch.device) -> None:
        """Note that the ranks have agreed to run the step."""
        if self.running and device.type == "cuda" and not self._span:
            self._before_agreement = time.perf_counter() - self._started - self._host_wait
            self._span.append(_event())

    def end(self) -> None:
        """The step's work is queued (GPU) or done (CPU)."""
        if not self.running:
            return
        self.running = False
        if self._span:
            self._span.append(_event())
        self._host_seconds = time.perf_counter() - self._started - self._host_wait

    @contextlib.contextmanager
    def collective(self, *, on_gpu: bool) -> Iterator[None]:
        """Count what happens within as waiting for other ranks."""
        if not self.running:
            yield
        elif on_gpu or self._span:
            # A device has nothing to do while its host waits for other hosts: that is on its time line too.
            before = _event()
            yield
            self._waits.append((before, _event()))
        else:
            started = time.perf_counter()
            try:
                yield
            finally:
                self._host_wait += time.perf_counter() - started

    def around(self, call: Callable[..., T], *, on_gpu: bool) -> Callable[..., T]:
        """Return ``call`` as a collective."""

        @functools.wraps(call)
        def counted(*args: Any, **how: Any) -> T:
            with self.collective(on_gpu=on_gpu):
                return call(*args, **how)

        return counted

    def seconds(self) -> float | None:
        """Return the own time of the step measured last; None where there is none.

        On a GPU only after the host has waited for the step: the events must have happened.
        """
        if len(self._span) < 2:
            return self._host_seconds
        first, last = self._span
        waited: float = sum(before.elapsed_time(after) for before, after in self._waits)
        milliseconds: float = max(0.0, first.elapsed_time(last) - waited)
        return self._before_agreement + milliseconds / 1000.0


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


#: The clock of this process.
CLOCK = StepClock()
