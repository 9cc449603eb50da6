"""The six lines that a start prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from pal_ds.config import load_config
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.planning.plan_lines import plan_lines
from pal_ds.planning.run_plan import RunPlan


@pytest.fixture
def plan() -> RunPlan:
    epoch = EpochPlan(
        shard_names=("train-000000.tar",),
        shard_clips=(64,),
        clip_bytes=500_000,
        global_batch=16,
        group_size=8,
        groups_per_step=2,
        lane_rounds=1,
        slice_clips=4,
        window_groups=2,
    )
    return RunPlan(epoch=epoch, total_steps=10, micro_batch=8, world_size=2, has_validation=True)


def test_a_run_is_told_in_six_lines(plan: RunPlan, tmp_path: Path) -> None:
    settings = ["data.shards=s3://user:secret@bucket/set", f"run.dir={tmp_path}", "data.global_batch=16"]
    lines = plan_lines(load_config("configs/demo.yaml", settings), plan, step=4)
    assert len(lines) == 6
    assert lines[0] == "data     s3://bucket/set: 64 clips, validation on"
    assert lines[1] == "batch    16 videos = 2 ranks x 8 x 1 micro-steps, groups of 8"
    assert lines[3] == "length   10 steps = 2.5 epochs of 4; resuming at step 4, 2 ranks"
    assert "8.0 MB a step" in lines[4]
    assert str(tmp_path) in lines[5]


def test_a_new_run_says_that_it_starts(plan: RunPlan, tmp_path: Path) -> None:
    config = load_config("configs/demo.yaml", ["data.shards=x", f"run.dir={tmp_path}"])
    assert "starting at step 0" in plan_lines(config, plan, step=0)[3]
