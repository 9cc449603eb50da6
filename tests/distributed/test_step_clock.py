"""A step's own time: what is not spent in collectives, and nothing at all while no step is measured."""

from __future__ import annotations

import time

import pytest
import torch

from pal_ds.distributed.step_clock import StepClock

CPU = torch.device("cpu")


def test_waits_for_others_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = StepClock()
    assert clock.seconds() is None
    clock.begin()
    now[0] += 2.0
    with clock.collective(on_gpu=False):
        now[0] += 5.0
    clock.agreed(CPU)
    now[0] += 1.0

    def reduce(value: float) -> float:
        now[0] += 7.0
        return value

    assert clock.around(reduce, on_gpu=False)(0.5) == 0.5
    clock.end()
    now[0] += 50.0
    with clock.collective(on_gpu=False):
        now[0] += 5.0
    assert clock.seconds() == pytest.approx(3.0)
    clock.begin()
    now[0] += 4.0
    clock.end()
    assert clock.seconds() == pytest.approx(4.0)


def test_an_error_in_a_collective_passes() -> None:
    clock = StepClock()
    clock.begin()
    with pytest.raises(RuntimeError, match="gone"), clock.collective(on_gpu=False):
        raise RuntimeError("gone")
    clock.end()
    assert clock.seconds() is not None
