"""Pre-training through the real launcher: exact resume, other world sizes, preemption, failures."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from launching import Launcher, rows, state_of, training_rows, words

pytestmark = pytest.mark.slow
_EXACT = ("loss", "batch_hash", "lr", "grad_norm", "top1")


def assert_equal_states(one: dict, two: dict) -> None:
    for part in ("model", "optimizer"):
        assert one[part].keys() == two[part].keys()
        for name, tensor in one[part].items():
            assert torch.equal(tensor, two[part][name]), name
    for name in ("schedule", "scaler", "step", "epoch"):
        assert one["state"][name] == two["state"][name], name


@pytest.mark.parametrize(("zero_stage", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32")])
def test_a_resumed_run_is_the_uninterrupted_run(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, zero_stage: int, precision: str
) -> None:
    # The launcher is part of one case; the others start the ranks themselves, which takes half the time.
    start = launcher.run if zero_stage == 0 else launcher.run_ranks
    # Batches of 8 from 33 clips are 4 steps an epoch: step 6 lies in the middle of the second.
    how = [f"zero_stage={zero_stage}", f"precision={precision}", "checkpoint.every_steps=6"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for run, steps in ((whole, 9), (parts, 6), (parts, 9)):
        done = start(2, words(tiny_set, run, *how, f"run.max_steps={steps}"))
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = training_rows(whole), training_rows(parts)
    assert list(one) == list(two) == list(range(1, 10))
    for step in one:
        assert [one[step][name] for name in _EXACT] == [two[step][name] for name in _EXACT], step
    assert_equal_states(state_of(whole, 9), state_of(parts, 9))
    assert json.loads((parts / "STATUS.json").read_text()) == {"state": "done", "step": 9}


def test_another_world_size_and_zero_stage_go_on_with_the_same_batches(
    tiny_set: Path, launcher: Launcher, tmp_path: Path
) -> None:
    # A small learning rate, so that other orders of summation stay what they are: rounding.
    slow = ["optimizer.lr=1e-5", "validation.every_steps=0"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert launcher.run_ranks(2, words(tiny_set, whole, *slow, "run.max_steps=9")).returncode == 0
    for ranks, steps, stage in ((2, 3, 0), (1, 6, 1), (2, 9, 2)):
        done = launcher.run_ranks(
            ranks, words(tiny_set, parts, *slow, f"run.max_steps={steps}", f"zero_stage={stage}")
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = training_rows(whole), training_rows(parts)
    assert [one[step]["batch_hash"] for step in one] == [two[step]["batch_hash"] for step in two]
    assert [one[step]["loss"] for step in one] == pytest.approx([two[step]["loss"] for step in two], rel=1e-3)


def ranks_of(process: psutil.Process) -> dict[int, psutil.Process]:
    found = {}
    for child in process.children(recursive=True):
        try:
            command, environment = child.cmdline(), child.environ()
        except psutil.Error:
            continue
        # Loader workers and the launcher itself carry the script's name too.
        if any(word.endswith("pretrain.py") for word in command[:3]) and "LOCAL_RANK" in environment:
            found.setdefault(int(environment["LOCAL_RANK"]), child)
    return found


def wait_for_step(run: Path, step: int, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (run / "metrics.jsonl").exists() and any(row["step"] >= step for row in rows(run)):
            return
        time.sleep(0.1)
    raise AssertionError(f"step {step} was not reached")


@pytest.mark.parametrize("target", ["rank 1", "launcher", "command"])
def test_a_signal_saves_and_stops_everything(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, target: str
) -> None:
    run = tmp_path / "run"
    process = launcher.start(2, words(tiny_set, run, "run.max_steps=100000", "validation.every_steps=0"))
    try:
        wait_for_step(run, 3)
        tree = psutil.Process(process.pid)
        family = [tree, *tree.children(recursive=True)]
        ranks = ranks_of(tree)
        aim = {"rank 1": ranks[1], "launcher": ranks[0].parent(), "command": tree}[target]
        started = time.monotonic()
        os.kill(aim.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs([*ranks.values()], timeout=60)
        assert not alive
        assert time.monotonic() - started < 40
        process.communicate(timeout=60)
    finally:
        process.kill()
    status = json.loads((run / "STATUS.json").read_text())
    assert status["state"] == "preempted"
    assert (run / "checkpoints" / f"step-{status['step']:08d}" / "COMMITTED").exists()
    if target == "rank 1":
        assert process.returncode == 75
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [other for other in alive if other.is_running()] == []
    more = launcher.run_ranks(2, words(tiny_set, run, f"run.max_steps={status['step'] + 2}"))
    assert more.returncode == 0, more.stderr[-3000:]
    assert list(training_rows(run)) == list(range(1, status["step"] + 3))
    events = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[:3] == ["start", "preempted", "resume"]


def test_a_killed_rank_ends_the_job_and_the_next_start_resumes(
    tiny_set: Path, launcher: Launcher, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    more = ["validation.every_steps=0", "checkpoint.every_steps=2"]
    process = launcher.start(2, words(tiny_set, run, *more, "run.max_steps=100000"))
    wait_for_step(run, 5)
    tree = psutil.Process(process.pid)
    family = tree.children(recursive=True)
    os.kill(ranks_of(tree)[1].pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [other for other in alive if other.is_running()] == []
    committed = sorted(folder.parent.name for folder in (run / "checkpoints").glob("*/COMMITTED"))
    last = int(committed[-1].removeprefix("step-"))
    done = launcher.run_ranks(2, words(tiny_set, run, *more, f"run.max_steps={last + 1}"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resuming at step {last}" in done.stderr


@pytest.mark.parametrize("zero_stage", [0, 1])
def test_nan_on_one_rank_leaves_the_step_out_everywhere(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, zero_stage: int
) -> None:
    run = tmp_path / "run"
    options = [
        f"zero_stage={zero_stage}",
        "run.max_steps=4",
        "checkpoint.every_steps=1",
        "checkpoint.keep_last=9",
    ]
    script = "tests/training/pretrain_with_nan.py"
    done = launcher.run_ranks(
        2, words(tiny_set, run, *options), script=script, PAL_TEST_NAN_STEPS="2", PAL_TEST_NAN_RANK="1"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = state_of(run, 2), state_of(run, 3)
    for name, tensor in after["model"].items():
        assert torch.isfinite(tensor.float()).all(), name
        assert torch.equal(tensor, before["model"][name]), name
    assert training_rows(run)[3]["loss"] is None
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "skipped"] == [3]
    assert not torch.equal(state_of(run, 4)["model"]["queue.keys"], after["model"]["queue.keys"])


def test_too_many_bad_steps_stop_the_run(tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    run = tmp_path / "run"
    script = "tests/training/pretrain_with_nan.py"
    options = ["run.max_steps=9", "safety.max_skipped_steps=2"]
    done = launcher.run(
        0, words(tiny_set, run, *options), script=script, PAL_TEST_NAN_STEPS="2,3", PAL_TEST_NAN_RANK="0"
    )
    assert done.returncode == 1
    assert "2 steps in a row were not finite" in done.stderr
    assert json.loads((run / "STATUS.json").read_text())["state"] == "failed"


def test_refusals_are_one_line_and_status_2(tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert (
        launcher.run(0, words(tiny_set, run, "run.max_steps=1", "validation.every_steps=0")).returncode == 0
    )
    for more, said in (
        (["queue.size=41"], "queue.size"),
        (["run.seed=5"], "run.seed"),
        (["--restart"], "--overwrite"),
        (["data.shards=/nowhere"], "manifest.json"),
        (["schedule.name=plateau", "validation.every_steps=0"], "schedule.name"),
    ):
        done = launcher.run(0, words(tiny_set, run, "run.max_steps=2", *more))
        assert done.returncode == 2, (more, done.stderr[-2000:])
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, done.stderr
        assert said in errors[0]
    done = launcher.run(3, words(tiny_set, tmp_path / "three", "run.max_steps=1"))
    assert done.returncode == 2
    assert "use one of [1, 2]" in done.stderr
    assert not (tmp_path / "three").exists()
