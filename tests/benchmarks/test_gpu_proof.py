"""The GPU proof's own program, on a CPU: every step runs, what fails stops nothing, and all is written at once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import numpy as np
import pytest
import torch

from benchmarks.gpu import plan, rendered
from benchmarks.gpu.cli import main
from benchmarks.gpu.plan import PHASES, STEPS, Step
from benchmarks.gpu.runner import Runner
from benchmarks.gpu.tables import markdown
from tests.support.fork_server import Forked, fork_server


def proof(folder: Path, *words: str) -> dict:
    """Run phases tiny on the CPU and return the results file."""
    out = folder / "gpu.json"
    status = main(
        ["run", "--device", "cpu", "--tiny", "--folder", str(folder / "kept"), "--out", str(out), *words]
    )
    document = json.loads(out.read_text())
    failed = {
        name: step.get("error", "")[-1500:]
        for name, step in document["steps"].items()
        if step["state"] != "ok"
    }
    assert status == 0, failed
    return document


def test_phases_end_within_nine_minutes_and_steps_have_names_of_their_own() -> None:
    assert plan.PHASE_SECONDS <= 540
    assert len(STEPS) == sum(map(len, PHASES.values()))
    assert all(step.limit <= plan.PHASE_SECONDS for step in STEPS.values())


def test_small_parts_run_on_a_cpu_and_become_tables(tmp_path: Path) -> None:
    document = proof(tmp_path, "--phases", "parts", "--only", "pooling", "queue")
    steps = document["steps"]
    assert all(
        row["values equal"] and row["ordered gradient off"] == 0 for row in steps["pooling"]["result"]["rows"]
    )
    assert steps["queue"]["result"]["queue equal"]
    text = markdown(document)
    assert "| parts | pooling |" in text
    assert "## queue" in text


def test_a_step_that_fails_or_hangs_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that can't run here: one wants clips that nobody made, one is given no time."""
    hasty = Step(name="autocast", where="parts:autocast", limit=0.5, about="ended at its limit")
    phase = (STEPS["rendering"], hasty, STEPS["machine"])
    monkeypatch.setitem(PHASES, "parts", phase)
    out = tmp_path / "gpu.json"
    runner = Runner(out, device="cpu", tiny=True, folder=tmp_path / "kept", brought=None)
    assert not runner.run(["parts"])
    steps = json.loads(out.read_text())["steps"]
    assert steps["rendering"]["state"] == "failed"
    assert "no clips at" in steps["rendering"]["error"]
    assert steps["autocast"]["state"] == "timed out"
    assert steps["machine"]["state"] == "ok"
    assert "failed: `RuntimeError: no clips at" in markdown(json.loads(out.read_text()))


def test_a_phase_whose_time_is_up_leaves_the_rest_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.runner.PHASE_SECONDS", 0.0)
    runner = Runner(tmp_path / "gpu.json", device="cpu", tiny=True, folder=tmp_path / "kept", brought=None)
    assert not runner.run(["ready"])
    states = [step["state"] for step in runner.document["steps"].values()]
    assert states == ["left out"] * len(PHASES["ready"])


def test_drawn_clips_move_and_are_a_function_of_their_number() -> None:
    one, again, other = (np.stack(rendered.frames(number, 6, 48, 36)) for number in (3, 3, 4))
    assert one.shape == (6, 36, 48, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert all(not np.array_equal(one[at], one[at + 1]) for at in range(5))


def forked(words: list[str], *, cwd: Path, env: dict[str, str], stdout: TextIO, **_: object) -> Forked:
    """Start a step as the runner does, but for the imports."""
    return fork_server().start(words[1:], env=env, cwd=cwd, output=Path(stdout.name))


@pytest.mark.slow
def test_the_whole_proof_runs_tiny_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each of the steps is a process; that real ones start is shown by the tests above.
    monkeypatch.setattr(
        "benchmarks.gpu.runner.subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": forked})
    )
    steps = proof(tmp_path, "--jobs", "2")["steps"]
    assert set(steps) == set(STEPS)
    result = {name: step["result"] for name, step in steps.items()}
    assert result["rendering"]["largest difference, grey levels"] <= 1
    assert result["batch_norm"]["fp32 gradient"] < 1e-5
    for name in ("batches equal", "losses equal", "final bits equal"):
        assert result["resume"][name], name
    assert result["bits"]["deterministic"]["equal"]
    assert all(result["overflow"].values())
    assert result["zero"]["stage 2 off"] < 1e-5
    assert result["recompute"]["4 stages"]["bits equal"]
    assert result["streaming"]["steps"] == 4
    assert result["letter"]["finished"]
    assert result["letter"]["steps"] == 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_without_a_gpu_nothing_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--out", str(tmp_path / "gpu.json")]) == 2
    assert capsys.readouterr().err.startswith("gpu: torch sees no CUDA device")
    assert not list(tmp_path.iterdir())
