"""A run that draws from two shard sets: resumed on two ranks, counted, refused where it would change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.full import FULL
from tests.support.launching import COLOURS, Launcher, make_set, training_rows, words

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def other_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("other-set"), clips=14, source=COLOURS)


def test_a_mixed_run_goes_on_after_a_resume_and_keeps_its_sets(
    tiny_set: Path, other_set: Path, launcher: Launcher, tmp_path: Path
) -> None:
    start = launcher.run if FULL else launcher.run_ranks

    def mixed(weight: int) -> str:
        second = f"{{url: {other_set}, weight: {weight}, where: {{source: '*clip-0*'}}}}"
        return f"data.shards=[{{url: {tiny_set}, weight: 1}}, {second}]"

    shared = [mixed(2), "data.epoch_clips=24", "checkpoint.every_steps=2", "validation.every_steps=4"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = launcher.run_ranks(0, words(tiny_set, whole, *shared, "run.max_steps=5"))
    assert done.returncode == 0, done.stderr[-3000:]
    for steps in (2, 5):
        done = start(2, words(tiny_set, parts, *shared, f"run.max_steps={steps}"))
        assert done.returncode == 0, done.stderr[-3000:]
    assert "resuming at step 2, 2 ranks" in done.stderr
    assert "where chooses" not in done.stderr, "the second start takes what the first one kept"
    assert len(list((parts / "selections").iterdir())) == 2
    one, two = training_rows(whole), training_rows(parts)
    assert list(one) == list(two) == [1, 2, 3, 4, 5]
    for step, row in two.items():
        assert row["batch_hash"] == one[step]["batch_hash"], step
        assert (row["source0_clips"], row["source1_clips"]) == (
            one[step]["source0_clips"],
            one[step]["source1_clips"],
        )
        assert row["source0_clips"] + row["source1_clips"] == 8 * step
        assert row["source0_replaced"] == row["source1_replaced"] == 0
    assert (two[3]["source0_clips"], two[3]["source1_clips"]) == (8, 16)
    assert two[3]["source1_passes"] > 1
    state = json.loads(next((parts / "checkpoints").glob("step-00000002/state.json")).read_text())
    assert [source["weight"] for source in state["identity"]["sources"]] == [1.0, 2.0]

    refused = launcher.run_ranks(0, words(tiny_set, parts, *shared, mixed(3), "run.max_steps=6"))
    assert refused.returncode == 2, refused.stderr[-3000:]
    assert "data.shards[1].weight = 3.0: this run began with 2.0" in refused.stderr
