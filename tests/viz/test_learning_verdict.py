"""The verdict on a run: it must be able to say no."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from pal_ds.viz.learning_verdict import judge, margins

GUESS = math.log(1 + 64)


def run(
    *,
    last_loss: float,
    last_top1: float,
    train_end: float,
    train_start: float = GUESS,
    start: bool = True,
    noise: float = 0.05,
    error: float = 0.05,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """A run of 60 logged steps whose losses move from start to end, with a validation at both ends."""
    draw = random.Random(seed)
    held = {"val_chance_loss": math.log(100), "val_chance_top1": 0.01, "val_loss_error": error}
    rows: list[dict[str, Any]] = []
    if start:
        rows.append({"step": 0, "val_loss": 4.7, "val_top1": 0.02, "val_top1_error": 0.01, **held})
    for step in range(1, 61):
        loss = train_start + (train_end - train_start) * min(1.0, step / 45) + draw.gauss(0, noise)
        rows.append({"step": step, "loss": loss, "queue_fill": 1.0, "positive_similarity": 0.5})
    rows.append({"step": 60, "val_loss": last_loss, "val_top1": last_top1, "val_top1_error": 0.02, **held})
    return rows


def verdict(**settings: Any):
    return judge(run(**settings), queue_size=64, mask_unfilled=True)


def test_a_run_that_learns_is_recognised() -> None:
    found = verdict(last_loss=3.5, last_top1=0.2, train_end=3.2)
    assert found.learned is True
    assert not found.warnings
    assert [one.better for one in found.findings] == [True, True, True]
    assert "untrained 4.700" in found.reasons[0]


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_learns_nothing_is_told_so(seed: int) -> None:
    found = verdict(last_loss=4.68, last_top1=0.03, train_end=GUESS, noise=0.4, seed=seed)
    assert found.learned is False
    assert found.headline.startswith("Has not learned")


def test_both_sides_must_agree() -> None:
    unseen_only = verdict(last_loss=0.1, last_top1=0.9, train_end=GUESS)
    assert unseen_only.learned is False
    assert "training clips are not" in unseen_only.headline
    assert len(unseen_only.warnings) == 1, "held-out far above training is a warning, not a success"
    seen_only = verdict(last_loss=4.7, last_top1=0.02, train_end=2.0)
    assert seen_only.learned is False
    assert "unseen clips are not" in seen_only.headline


def test_a_gap_within_its_interval_does_not_count() -> None:
    found = verdict(last_loss=4.6, last_top1=0.02, train_end=3.2, error=0.05)
    assert found.findings[0].better is False
    sure = verdict(last_loss=4.4, last_top1=0.02, train_end=3.2, error=0.05)
    assert sure.findings[0].better is True


def test_without_a_control_there_is_no_verdict() -> None:
    found = verdict(last_loss=3.5, last_top1=0.2, train_end=3.2, start=False)
    assert found.learned is None
    assert "step 0" in found.headline
    assert judge([], queue_size=64, mask_unfilled=True).learned is None


def test_an_untrained_network_that_is_better_than_a_guess_does_not_make_a_run_learn() -> None:
    found = verdict(last_loss=4.7, last_top1=0.02, train_start=3.0, train_end=3.0)
    assert found.learned is False


def test_margins_follow_the_queue_as_it_fills() -> None:
    rows = [{"step": 1, "loss": 1.0, "queue_fill": 0.25}]
    assert margins(rows, 64, True) == [pytest.approx(math.log(17) - 1.0)]
    assert margins(rows, 64, False) == [pytest.approx(math.log(65) - 1.0)]


def test_losses_without_contrast_are_compared_as_they_are() -> None:
    rows: list[dict[str, Any]] = [{"step": 0, "val_loss": 2.9}]
    rows += [{"step": step, "loss": 2.9 - 0.02 * step, "queue_fill": 1.0} for step in range(1, 61)]
    rows.append({"step": 60, "val_loss": 1.7})
    found = judge(rows, queue_size=64, mask_unfilled=False)
    assert found.learned is None, "a loss without an error has no interval"
    assert found.headline == "No verdict: the held-out loss has no error"
    assert found.findings[0].value == 1.7
    assert found.findings[0].untrained == 2.9


def classifier(*, gain: float, end: float = 1.9, told: bool = True) -> list[dict[str, Any]]:
    """A run whose batches hold more or fewer clips that count: the loss swings by far more than is learned."""
    draw = random.Random(3)
    rows: list[dict[str, Any]] = [
        {"step": 0, "val_loss": 2.05, "val_loss_error": 0.03, "val_chance_loss": 2.0}
    ]
    for step in range(1, 65):
        guess = math.log(2) + draw.uniform(0.25, 0.65) * math.log(18)
        loss = guess - gain * min(1.0, step / 50) + draw.gauss(0, 0.02)
        rows.append({"step": step, "loss": loss} | ({"chance_loss": guess} if told else {}))
    held = {"val_loss": end, "val_loss_error": 0.03, "val_chance_loss": 2.0}
    return [*rows, {"step": 64, **held}]


def test_a_batch_is_compared_with_a_guess_at_that_batch() -> None:
    found = judge(classifier(gain=0.15), queue_size=64, mask_unfilled=False)
    assert found.learned is True
    assert found.findings[-1].guess == 0.0
    assert judge(classifier(gain=0.0), queue_size=64, mask_unfilled=False).learned is False
    bare = judge(classifier(gain=0.15, told=False), queue_size=64, mask_unfilled=False)
    assert bare.learned is False, "the same run without its guesses: the swing hides what was learned"


def test_a_classifier_that_leads_on_unseen_clips_is_warned_of() -> None:
    assert judge(classifier(gain=0.1, end=0.3), queue_size=64, mask_unfilled=False).warnings
    bare = judge(classifier(gain=0.1, end=0.3, told=False), queue_size=64, mask_unfilled=False)
    assert not bare.warnings, "without a guess nothing is known of the training side"
