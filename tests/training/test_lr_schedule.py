"""Learning-rate schedules: curves, plateau counters, resumption."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal_ds.config import OptimizerConfig, ScheduleConfig
from pal_ds.training.lr_schedule import Schedule


def make(name: str, **options) -> Schedule:
    return Schedule(
        ScheduleConfig(name=name, **options), OptimizerConfig(lr=1e-4), total_steps=100, steps_per_epoch=10
    )


def test_plateau_cuts_after_patience_and_only_then() -> None:
    schedule = make("plateau", patience=2)
    cuts = [schedule.observe(loss) for loss in (5.0, 4.0, 4.1, 4.2, 4.3, 3.0)]
    assert cuts == [False, False, False, False, True, False]
    assert schedule.rate(7) == pytest.approx(1e-5)


def test_a_loss_that_is_not_finite_is_no_improvement() -> None:
    schedule = make("plateau", patience=0)
    assert not schedule.observe(4.0)
    assert schedule.observe(math.nan)


def test_step_and_cosine() -> None:
    step = make("step", milestones=(2, 4))
    assert [step.rate(at) for at in (0, 19, 20, 40)] == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6])
    cosine = make("cosine", warmup_steps=10)
    assert cosine.rate(0) == pytest.approx(1e-5)
    assert cosine.rate(55) == pytest.approx(0.5e-4)
    assert cosine.rate(100) == pytest.approx(0.0, abs=1e-12)


def test_min_lr_is_a_floor() -> None:
    assert make("cosine", min_lr=3e-5).rate(99) == pytest.approx(3e-5)


@given(st.lists(st.floats(0.1, 10.0), max_size=30), st.integers(0, 30), st.integers(0, 3), st.integers(0, 3))
def test_a_resumed_plateau_is_the_uninterrupted_one(losses, cut: int, patience: int, cooldown: int) -> None:
    whole, first, second = (make("plateau", patience=patience, cooldown=cooldown) for _ in range(3))
    for loss in losses:
        whole.observe(loss)
    for loss in losses[:cut]:
        first.observe(loss)
    second.load_state_dict(first.state_dict())
    for loss in losses[cut:]:
        second.observe(loss)
    assert second.state_dict() == whole.state_dict()
    assert second.rate(5) == whole.rate(5)
