"""kill -9 at random moments of a build: nothing survives it, and the rerun ends in the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid

import pytest

from tests.support.shard_files import files_of, processes_mentioning

SMALL = ("--shard-bytes", "60KB", "--workers", "2")


def kill_until_done(
    arguments: list[str], env: dict[str, str], marker: str, *, kills: int, seed: int, latest: float
) -> int:
    """Run a build again and again, killing it within ``latest`` seconds; returns how often it was killed."""
    moments = random.Random(seed)
    killed = 0
    command = [sys.executable, "-m", "shards.cli", *arguments]
    while killed < kills:
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moments.uniform(latest / 10, latest))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            deadline = time.monotonic() + 2.0
            while processes_mentioning(marker) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert processes_mentioning(marker) == []
    assert subprocess.run(command, env=env, check=False, capture_output=True).returncode == 0
    return killed


@pytest.mark.slow
def test_killed_at_random_moments_the_rerun_ends_in_the_same_bytes(corpus, tmp_path) -> None:
    scratch = tmp_path / f"scratch-{uuid.uuid4().hex}"
    scratch.mkdir()
    env = {**os.environ, "TMPDIR": str(scratch)}
    whole, killed = (
        ["build", str(corpus), str(tmp_path / name), *SMALL, "--quiet"] for name in ("whole", "killed")
    )
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-m", "shards.cli", *whole], env=env, check=False).returncode == 0
    half = (time.monotonic() - started) / 2
    assert kill_until_done(killed, env, scratch.name, kills=8, seed=5, latest=half) > 1
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_a_rerun_redoes_only_unfinished_shards(corpus, tmp_path, pal_shard) -> None:
    task = ("--num-tasks", 2, "--task-index", 0)
    assert pal_shard("build", corpus, tmp_path / "out", *SMALL, *task).returncode == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert before
    assert pal_shard("build", corpus, tmp_path / "out", *SMALL).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)


@pytest.mark.slow
def test_a_stop_signal_ends_all_tools_and_leaves_no_scratch(corpus, tmp_path) -> None:
    scratch = tmp_path / f"scratch-{uuid.uuid4().hex}"
    scratch.mkdir()
    command = [
        sys.executable,
        "-m",
        "shards.cli",
        "build",
        str(corpus),
        str(tmp_path / "out"),
        *SMALL,
        "--quiet",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not processes_mentioning(f"{scratch.name}/pal-shard-") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "run the same command again" in stderr
    assert "Traceback" not in stderr
    assert processes_mentioning(scratch.name) == []
    assert list(scratch.iterdir()) == []
