"""Pre-training through the real launcher: exact resume, other world sizes, preemption, failures."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests.support.full import FULL, rest
from tests.support.launching import (
    Launcher,
    assert_equal_states,
    ranks_of,
    rows,
    state_of,
    training_rows,
    words,
)

pytestmark = pytest.mark.slow
_EXACT = ("loss", "batch_hash", "lr", "grad_norm", "top1")


#: ZeRO stage, precision, accumulation. ``PAL_TEST_FULL=1`` takes all of them, each through the launcher.
_RESUMES = [(2, "fp16", 2)]
if FULL:
    _RESUMES = list(itertools.product((0, 1, 2), ("fp32", "bf16", "fp16"), (1, 2)))


@pytest.mark.parametrize(("zero_stage", "precision", "accumulation"), _RESUMES)
def test_a_resumed_run_is_the_uninterrupted_run(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, zero_stage: int, precision: str, accumulation: int
) -> None:
    start = launcher.run if FULL else launcher.run_ranks
    # 34 clips are 4 steps of 8 an epoch, or 2 of 16: steps 6 and 5 lie in the middle of one.
    middle, last = (6, 9) if accumulation == 1 else (5, 7)
    how = [f"zero_stage={zero_stage}", f"precision={precision}", f"checkpoint.every_steps={middle}"]
    how += [f"data.accumulation={accumulation}", f"data.global_batch={8 * accumulation}"]
    how += ["validation.probe_every=1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for run, steps in ((whole, last), (parts, middle), (parts, last)):
        done = start(2, words(tiny_set, run, *how, f"run.max_steps={steps}"))
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = training_rows(whole), training_rows(parts)
    assert list(one) == list(two) == list(range(1, last + 1))
    for step in one:
        assert [one[step][name] for name in _EXACT] == [two[step][name] for name in _EXACT], step
    validations = [[row for row in rows(run) if "val_loss" in row] for run in (whole, parts)]
    for name in ("val_loss", "val_knn_accuracy", "val_retrieval_r1"):
        assert validations[0][-1][name] == validations[1][-1][name]
    assert validations[0][-1]["val_knn_samples"] == validations[0][-1]["val_samples"] > 0
    after = state_of(parts, last)
    assert_equal_states(state_of(whole, last), after)
    scaler = after["state"]["scaler"]
    assert (scaler is not None) == (precision == "fp16")
    if scaler is not None:
        # Its counter shows that it was carried over the resume, not begun anew.
        overflows = sum(row["loss_scale"] < 65536 for row in two.values())
        assert scaler["_growth_tracker"] > last - middle or overflows
        assert [one[step]["loss_scale"] for step in one] == [two[step]["loss_scale"] for step in two]
    assert json.loads((parts / "STATUS.json").read_text()) == {"state": "done", "step": last}


def wait_for_step(run: Path, step: int, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (run / "metrics.jsonl").exists() and any(row["step"] >= step for row in rows(run)):
            return
        time.sleep(0.1)
    raise AssertionError(f"step {step} was not reached")


@pytest.mark.parametrize(
    ("target", "number", "status"),
    [
        pytest.param("rank 1", signal.SIGTERM, 75, id="rank 1, TERM"),
        pytest.param("command", signal.SIGTERM, -signal.SIGTERM, id="command, TERM"),
        pytest.param("launcher", signal.SIGKILL, 0, id="launcher, KILL"),
        # What the launcher makes of it (docs/launching.md); STATUS.json says what became of the run.
        *rest([pytest.param("launcher", signal.SIGTERM, 1, id="launcher, TERM")]),
    ],
)
def test_a_signal_saves_and_stops_everything(
    tiny_set: Path,
    launcher: Launcher,
    tmp_path: Path,
    target: str,
    number: signal.Signals,
    status: int,
) -> None:
    run = tmp_path / "run"
    process = launcher.start(2, words(tiny_set, run, "run.max_steps=100000", "validation.every_steps=0"))
    try:
        wait_for_step(run, 3)
        tree = psutil.Process(process.pid)
        family = [tree, *tree.children(recursive=True)]
        ranks = ranks_of(tree)
        if target == "rank 1":
            stop_a_loader_worker_in_vain(run, ranks[0])
        aim = {"rank 1": ranks[1], "launcher": ranks[0].parent(), "command": tree}[target]
        os.kill(aim.pid, number)
        _, alive = psutil.wait_procs([*ranks.values()], timeout=60)
        assert not alive
        process.communicate(timeout=60)
    finally:
        process.kill()
    found = json.loads((run / "STATUS.json").read_text())
    assert found["state"] == "preempted"
    assert (run / "checkpoints" / f"step-{found['step']:08d}" / "COMMITTED").exists()
    assert process.returncode == status
    print(f"{number.name} to {target}: ranks gone, the command ended with {process.returncode}")
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [other for other in alive if other.is_running()] == []
    more = launcher.run_ranks(2, words(tiny_set, run, f"run.max_steps={found['step'] + 2}"))
    assert more.returncode == 0, more.stderr[-3000:]
    assert list(training_rows(run)) == list(range(1, found["step"] + 3))
    events = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[:3] == ["start", "preempted", "resume"]


def stop_a_loader_worker_in_vain(run: Path, rank: psutil.Process) -> None:
    """Send SIGTERM to every child of a rank (its loader workers among them); training must go on with them."""
    workers = [child for child in rank.children(recursive=True) if "forkserver" in " ".join(child.cmdline())]
    assert workers
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    wait_for_step(run, max(training_rows(run)) + 3)
    events = (run / "events.jsonl").read_text()
    assert "preempted" not in events


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
    status = json.loads((run / "STATUS.json").read_text())
    assert status["state"] == "failed"
    assert "no sign of life from rank 1 on" in status["error"]
    committed = sorted(folder.parent.name for folder in (run / "checkpoints").glob("*/COMMITTED"))
    last = int(committed[-1].removeprefix("step-"))
    done = launcher.run_ranks(2, words(tiny_set, run, *more, f"run.max_steps={last + 1}"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resuming at step {last}" in done.stderr


@pytest.mark.parametrize("zero_stage", [0, 1, *rest([2])])
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
    script = "tests/support/pretrain_with_nan.py"
    start = launcher.run if FULL else launcher.run_ranks
    done = start(
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


@pytest.mark.parametrize("how", ["busy", *rest(["frozen"])])
def test_a_hung_rank_is_named_and_the_job_ends(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, how: str
) -> None:
    run = tmp_path / "run"
    more = ["validation.every_steps=0", "checkpoint.every_steps=2", "run.max_steps=100000"]
    limits = ["data.retry_seconds=2", "safety.watchdog_seconds=25"]
    process = launcher.start(
        2,
        words(tiny_set, run, *more, *limits),
        script="tests/support/pretrain_hung.py",
        PAL_TEST_HANG=f"1,5,{how}",
    )
    family = []
    try:
        wait_for_step(run, 4)
        family = psutil.Process(process.pid).children(recursive=True)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode not in {0, 75}
    status = json.loads((run / "STATUS.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 5)
    expected = "the others wait for rank 1 on" if how == "busy" else "no sign of life from rank 1 on"
    assert expected in status["error"]
    # A rank tells where it is once a second, in which several of these tiny steps pass; frozen, it tells no more.
    steps = "5" if how == "busy" else "[0-5]"
    assert re.search(rf"of step {steps} at", status["error"])
    assert "no progress for" in err
    _, alive = psutil.wait_procs(family, timeout=40)
    assert [other for other in alive if other.is_running()] == []
    last = max(int(path.parent.name[5:]) for path in (run / "checkpoints").glob("*/COMMITTED"))
    assert last == 4


def test_what_one_rank_can_not_do_all_leave_for(tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    """Without a launcher that would end the others, as under srun."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "something").write_text("here")
    done = launcher.run_ranks(2, words(tiny_set, run, "run.max_steps=1", "--restart"))
    assert done.returncode == 2, done.stderr[-3000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "--overwrite" in errors[0]
    assert [path.name for path in run.iterdir()] == ["something"]
    elsewhere = tmp_path / "elsewhere"
    done = launcher.run_ranks(
        2, words(tiny_set, elsewhere), others=words(tmp_path / "not-mounted-here", elsewhere)
    )
    assert done.returncode == 2, done.stderr[-3000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "not-mounted-here" in errors[0]
    assert not elsewhere.exists()


def assert_profiled(run: Path) -> None:
    (path,) = (run / "profile").iterdir()
    assert path.name == "steps-00000004-00000005-rank-0.json.gz"
    names = {
        str(event.get("name")) for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    }
    assert any("conv3d" in name for name in names)


def test_refusals_are_one_line_and_status_2(tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = words(tiny_set, run, "run.max_steps=6", "validation.every_steps=0", "--profile", "2")
    done = launcher.run_ranks(0, first)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_profiled(run)
    for more, said in (
        (["queue.size=41"], "queue.size"),
        (["run.seed=5"], "run.seed"),
        (["--restart"], "--overwrite"),
        (["data.shards=/nowhere"], "manifest.json"),
        (["schedule.name=plateau", "validation.every_steps=0"], "schedule.name"),
    ):
        done = launcher.run_ranks(0, words(tiny_set, run, "run.max_steps=7", *more))
        assert done.returncode == 2, (more, done.stderr[-2000:])
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, done.stderr
        assert said in errors[0]
        assert json.loads((run / "STATUS.json").read_text()) == {"state": "done", "step": 6}
    done = launcher.run(3, words(tiny_set, tmp_path / "three", "run.max_steps=1"))
    assert done.returncode == 2
    assert "use one of [1, 2]" in done.stderr
    assert not (tmp_path / "three").exists()
