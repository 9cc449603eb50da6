"""How tests start training and read what it left."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from shards.cli import main as pal_shard
from tests.support.fork_server import fork_server

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

TINY = [
    # Two ranks want two GPUs; what is tested here is not the device.
    "run.device=cpu",
    "data.global_batch=8",
    "data.group_size=4",
    "data.workers=1",
    "synthesis.size=16",
    "synthesis.clips=4",
    "synthesis.clip_frames=4",
    "synthesis.region_max=3",
    "model.width=0.0625",
    "model.embedding_dim=16",
    "queue.size=40",
    "queue.mask_unfilled=true",
    "objective.negatives=queue",
    "model.momentum=0.5",
    "model.differences=false",
    "schedule.name=constant",
    "log.every_steps=1",
    "log.tensorboard=false",
    "validation.every_steps=4",
    "checkpoint.every_steps=4",
    "checkpoint.asynchronous=false",
]

#: Clips that look much alike: a moving test pattern in other hues.
PATTERNS = "testsrc2=s=48x36:r=25:d=2.4,hue=h={hue}:s={saturation},rotate={turn}*t"
#: Clips that are easily told apart: two colours of each clip's own.
COLOURS = "gradients=s=48x36:r=25:d=2.4:n=2:seed={seed}:speed=0.01"
#: Clips that one ffmpeg makes: most of its time is its start.
_AT_ONCE = 20


@dataclasses.dataclass
class Launched:
    """A finished command."""

    returncode: int
    stdout: str
    stderr: str


class Launcher:
    """Runs launch/pretrain.py under the real deepspeed launcher, or plainly."""

    def command(self, ranks: int, words: list[str], *, script: str = "launch/pretrain.py") -> list[str]:
        """Return the command line; 0 ranks is plain python."""
        if ranks == 0:
            return [sys.executable, script, *words]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        launcher = [str(BIN / "deepspeed"), "--num_accelerators", str(ranks), "--master_port", str(port)]
        return [*launcher, script, *words]

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment of a launch; the scripts find the package by themselves."""
        path = f"{BIN}:{os.environ['PATH']}"
        return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **extra}

    def start(self, ranks: int, words: list[str], *, script: str = "launch/pretrain.py", **extra: str):
        """Start a launch and return the process."""
        return subprocess.Popen(
            self.command(ranks, words, script=script),
            cwd=ROOT,
            env=self.environment(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, ranks: int, words: list[str], *, script: str = "launch/pretrain.py", **extra: str
    ) -> Launched:
        """Run a launch to its end."""
        process = self.start(ranks, words, script=script, **extra)
        out, err = process.communicate(timeout=300)
        return Launched(process.returncode, out, err)

    def run_ranks(
        self,
        ranks: int,
        words: list[str],
        *,
        script: str = "launch/pretrain.py",
        others: list[str] | None = None,
        **extra: str,
    ) -> Launched:
        """Run the ranks without a launcher, by the variables that every launcher sets, and without import time.

        0 ranks are one process without these variables. ``others`` are the arguments of all ranks but the first,
        where they differ.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        processes = []
        for rank in range(max(1, ranks)):
            place = {
                "RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            environment = self.environment(**(place if ranks else {}), **extra)
            own = others if others and rank else words
            processes.append(fork_server().start([script, *own], env=environment))
        ended = [process.communicate(timeout=300) for process in processes]
        return Launched(
            _only({process.returncode for process in processes}),
            "".join(out for out, _ in ended),
            "".join(err for _, err in ended),
        )


def _only(statuses: set[int]) -> int:
    """Return the status that all ranks ended with."""
    assert len(statuses) == 1, f"ranks ended with {sorted(statuses)}"
    return statuses.pop()


def words(tiny_set: Path, run: Path | str, *more: str) -> list[str]:
    """Return the arguments of a tiny run."""
    return ["--config", "configs/demo.yaml", f"data.shards={tiny_set}", f"run.dir={run}", *TINY, *more]


def make_set(folder: Path, *, clips: int, one_in: int = 6, source: str = PATTERNS) -> Path:
    """Encode so many tiny clips by ffmpeg and pack them by pal-shard, one in six (or so) for validation."""
    lines = ["path,start,end,split,label"]
    names = [f"clip-{number:02d}.mp4" for number in range(clips)]
    for first in range(0, clips, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, clips))
        inputs, outputs = [], []
        for place, number in enumerate(numbers):
            drawn = source.format(seed=number, hue=number * 37, saturation=1 + number % 3, turn=number % 5)
            inputs += f"-f lavfi -i {drawn}".split()
            outputs += f"-map {place}:v -c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv420p".split()
            outputs.append(str(folder / names[number]))
        subprocess.run(["ffmpeg", "-v", "error", *inputs, *outputs], check=True)
    for number, name in enumerate(names):
        lines.append(f"{name},,,{'val' if number % one_in == one_in - 1 else 'train'},{number % 4}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    places = [str(folder / "clips.csv"), str(folder / "set"), "--video-root", str(folder)]
    options = ["--split-column", "--short-side", "36", "--shard-bytes", "100KB", "--with-labels"]
    assert pal_shard(["build", *places, *options, "--quiet", "--json"]) == 0
    return folder / "set"


def rows(run: Path) -> list[dict]:
    """Return the rows of a local run's metrics."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def training_rows(run: Path) -> dict[int, dict]:
    """Return the training rows by step."""
    found = [row for row in rows(run) if "val_loss" not in row]
    assert len({row["step"] for row in found}) == len(found), "a step appears twice"
    return {row["step"]: row for row in found}


def state_of(run: Path, step: int) -> dict:
    """Return all tensors and the state of a local checkpoint."""
    from pal_ds.formats import checkpoint

    snapshot = checkpoint.load(str(run), step)
    return {"model": snapshot.model, "optimizer": snapshot.optimizer, "state": snapshot.state}


def assert_equal_states(one: dict, two: dict) -> None:
    """Compare two results of :func:`state_of`, bit by bit."""
    import torch

    for part in ("model", "optimizer"):
        assert one[part].keys() == two[part].keys()
        for name, tensor in one[part].items():
            assert torch.equal(tensor, two[part][name]), name
    for name in ("schedule", "scaler", "step", "epoch"):
        assert one["state"][name] == two["state"][name], name


def ranks_of(process: psutil.Process) -> dict[int, psutil.Process]:
    """Return the ranks among a launcher's descendants, by local rank."""
    found: dict[int, psutil.Process] = {}
    for child in process.children(recursive=True):
        try:
            command, environment = child.cmdline(), child.environ()
        except psutil.Error:
            continue
        # Loader workers and the launcher itself carry the script's name too.
        if any("pretrain" in Path(word).name for word in command[:3]) and "LOCAL_RANK" in environment:
            found.setdefault(int(environment["LOCAL_RANK"]), child)
    return found


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"\0" * 4096)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
