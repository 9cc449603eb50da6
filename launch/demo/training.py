"""The demonstration's training: two ranks under the deepspeed launcher, stopped in the middle and resumed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from launch.demo.console import Console
from pal_ds.formats.exit_status import PREEMPTED
from pal_ds.viz.run_facts import collect_run

#: Its set has 300 clips, so batches can be larger than in configs/demo.yaml, which runs on any set; then the batch
#: alone gives better negatives than a queue, whose keys are of networks some steps old.
LARGER = (
    "data.global_batch=64",
    "objective.negatives=batch",
    "queue.mask_unfilled=false",
    "queue.size=256",
)


def train(console: Console, shards: str, run: str, steps: int, rate: float | None) -> None:
    """Train on two ranks; ask for a stop in the middle, as a cloud would, and run the same command again.

    Raises:
        StageError: a launch ends with a status that it should not end with.
    """
    middle = steps * 2 // 5
    command = _command(shards, run, steps, rate)
    with console.stage("pre-train on two ranks, stopped in the middle") as stage:
        _launch(console, [*command, "--restart", "--overwrite"], stop_at=middle)
        stage.detail = f"SIGTERM at step {middle}: saved and left with status {PREEMPTED}"
    with console.stage("resume from the checkpoint in s3://") as stage:
        _launch(console, command)
        stage.detail = f"to step {steps}"


def judge(run: str) -> str:
    """Return what the run's figures say beside the untrained network's, for the console."""
    verdict = collect_run(run).verdict
    assert verdict is not None
    return "\n".join((f"{verdict.headline}.", *verdict.reasons, *verdict.warnings))


def _command(shards: str, run: str, steps: int, rate: float | None) -> list[str]:
    launcher = [str(Path(sys.executable).parent / "deepspeed"), "--num_accelerators", "2"]
    return [
        *launcher,
        "--master_port",
        str(_free_port()),
        "launch/pretrain.py",
        "--config",
        "configs/demo.yaml",
        f"data.shards={shards}",
        f"run.dir={run}",
        f"run.max_steps={steps}",
        *LARGER,
        *_device(),
        *([] if rate is None else [f"optimizer.lr={rate}"]),
    ]


def _device() -> list[str]:
    """Return the setting that keeps two ranks on the CPU where there are no two GPUs."""
    import torch

    return [] if torch.cuda.device_count() >= 2 else ["run.device=cpu"]


def _launch(console: Console, command: list[str], *, stop_at: int | None = None) -> None:
    """Run the launcher; with ``stop_at`` send SIGTERM to one rank when that step is reached."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    stopped = False

    def stop_in_time(process: subprocess.Popen[str], line: str) -> None:
        nonlocal stopped
        step = _step_of(line)
        if stop_at is not None and not stopped and step is not None and step >= stop_at:
            os.kill(_rank_process(process.pid), signal.SIGTERM)
            stopped = True

    accepted = (0,) if stop_at is None else (PREEMPTED,)
    console.run(command, accepted=accepted, env=environment, on_line=stop_in_time)


def _step_of(line: str) -> int | None:
    words = line.split()
    if words[:1] == ["step"] and len(words) > 1 and "/" in words[1]:
        return int(words[1].partition("/")[0])
    return None


def _rank_process(launcher: int) -> int:
    """Return the process id of a training rank below the ``deepspeed`` command: the last one, as it happens."""
    import psutil

    ranks = [
        child.pid
        for child in psutil.Process(launcher).children(recursive=True)
        if any(word.endswith("launch/pretrain.py") for word in child.cmdline())
        and "deepspeed.launcher.launch" not in child.cmdline()
        and child.environ().get("LOCAL_RANK") == "1"
    ]
    return min(ranks)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
