"""A run that goes on with other numbers of ranks and other ZeRO stages: equal state, equal batches, the same losses.

Every run of the tests takes one small case without the launcher, from two ranks to one; ``PAL_TEST_FULL=1`` goes on
with four, takes a global batch of 32, resumes in the middle of an epoch, and goes through the launcher, in fp32 and
under autocast.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.full import FULL
from tests.support.launching import Launcher, assert_equal_states, make_set, state_of, training_rows, words

pytestmark = pytest.mark.slow
#: Ranks, ZeRO stage, steps.
STARTS = ((2, 0, 4), (1, 1, 7), (4, 2, 11)) if FULL else ((2, 0, 2), (1, 2, 4))
#: How far the losses of a step may be apart that begins with the same state on other ranks, and of steps long after,
#: when rounding has gone through Adam and the queue.
CLOSE = {"fp32": (5e-5, 1e-2), "bf16": (1e-2, 2e-2)}


@pytest.fixture(scope="session")
def wide_set(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path) -> Path:
    """Three steps of 32 an epoch where all is to be shown, else the tiny set: two of 16."""
    return make_set(tmp_path_factory.mktemp("wide-set"), clips=120) if FULL else tiny_set


@pytest.mark.parametrize("precision", ["fp32", *(["bf16"] if FULL else [])])
def test_a_run_goes_on_with_other_ranks_and_stages(
    wide_set: Path, launcher: Launcher, tmp_path: Path, precision: str
) -> None:
    start = launcher.run if FULL else launcher.run_ranks
    # A small learning rate, so that other orders of summation stay what they are: rounding.
    shared = [f"data.global_batch={32 if FULL else 16}", f"precision={precision}", "optimizer.lr=1e-5"]
    shared += ["validation.every_steps=0", "checkpoint.keep_last=9"]
    whole, parts, beside = tmp_path / "whole", tmp_path / "parts", tmp_path / "beside"

    def train(ranks: int, run: Path, *more: str, **how: str) -> str:
        done = start(ranks, words(wide_set, run, *shared, *more), **how)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    train(2, whole, f"run.max_steps={STARTS[-1][2]}")
    before = 0
    script = "tests/support/pretrain_reread.py"
    for ranks, stage, steps in STARTS:
        reread, more = tmp_path / f"reread-{ranks}", (f"run.max_steps={steps}", f"zero_stage={stage}")
        if ranks == 4:
            # Two ranks take the same step from the same state.
            shutil.copytree(parts, beside)
            train(2, beside, f"run.max_steps={before + 1}")
        said = train(ranks, parts, *more, script=script, PAL_TEST_REREAD=str(reread))
        if before:
            assert f"resuming at step {before}, {ranks} ranks" in said
            saved, held = state_of(parts, before), state_of(reread, before)
            assert_equal_states(saved, held)
            assert held["state"]["world_size"] == ranks != saved["state"]["world_size"]
        before = steps
    one, two = training_rows(whole), training_rows(parts)
    assert list(one) == list(two) == list(range(1, before + 1))
    for step in one:
        assert one[step]["batch_hash"] == two[step]["batch_hash"], step
    apart = {step: _apart(row, two[step]) for step, row in one.items()}
    first = STARTS[0][2] + 1
    at_once = {1: apart[first]}
    if beside.exists():
        second = STARTS[1][2] + 1
        at_once[4] = _apart(training_rows(beside)[second], two[second])
    print(f"{precision}: losses differ by {', '.join(f'{value:.1e}' for value in apart.values())}")
    print(
        "from the same state", *(f"{ranks} ranks differ from 2 by {by:.1e}" for ranks, by in at_once.items())
    )
    assert all(apart[step] == 0 for step in range(1, first))
    close, drifted = CLOSE[precision]
    assert max(at_once.values()) < close
    assert max(apart.values()) < drifted


def _apart(one: dict, two: dict) -> float:
    """Relative difference of two rows' losses; the first batch of a run meets an empty queue: its loss is 0."""
    return abs(one["loss"] - two["loss"]) / max(1.0, one["loss"])
