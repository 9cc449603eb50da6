"""What every step is told: the device, how large to be, and where things lie."""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pal_ds.config import Config, load_config
from pal_ds.distributed.ranks import Ranks

ROOT = Path(__file__).resolve().parents[2]
LETTER = "configs/pretrain/pal_i3d_k400.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """A step's surroundings.

    Attributes:
        device: where it computes.
        tiny: as small as can be, to try the program itself on a CPU.
        folder: kept between steps and phases: shard sets and runs.
        brought: what ``pack`` has packed; None where nothing was brought.
        deadline: seconds that the step has.
    """

    device: torch.device
    tiny: bool
    folder: Path
    brought: Path | None
    deadline: float

    @property
    def cuda(self) -> bool:
        """Whether a GPU computes."""
        return self.device.type == "cuda"

    @property
    def precision(self) -> str:
        """The precision of runs: what a GPU trains in, and on a CPU what is right there."""
        return "bf16" if self.cuda else "fp32"

    def pick(self, full: Any, tiny: Any) -> Any:
        """Return one of two sizes."""
        return tiny if self.tiny else full

    def words(self, *more: str) -> list[str]:
        """Return settings over the paper's config that make a small network, or a tiny one."""
        # No more videos than the training clips that were brought.
        sizes = ["model.width=0.5", "synthesis.size=112", "data.global_batch=32"]
        tiny = ["model.backbone=tsm_resnet8", "model.width=0.125", "synthesis.size=16", "synthesis.clips=4"]
        tiny += [
            "synthesis.clip_frames=4",
            "synthesis.region_max=3",
            "data.global_batch=8",
            "data.group_size=4",
        ]
        tiny += ["model.embedding_dim=16", "queue.size=32", "data.workers=1", "synthesis.background_stride=1"]
        sized = self.pick(sizes, tiny)
        return [*sized, f"precision={self.precision}", f"run.device={self.device.type}", *self._free(), *more]

    def config(self, *more: str) -> Config:
        """Return the paper's config at the sizes of :meth:`words`."""
        return load_config(ROOT / LETTER, [*self.words("data.shards=none", "run.dir=none"), *more])

    def wait(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, action: Callable[[], Any], repeats: int = 10) -> float:
        """Return the median time of an action after three to warm up (one where tiny)."""
        taken = []
        warm = self.pick(3, 1)
        for number in range(warm + self.pick(repeats, 2)):
            self.wait()
            begun = time.perf_counter()
            action()
            self.wait()
            if number >= warm:
                taken.append(time.perf_counter() - begun)
        return statistics.median(taken)

    def ranks(self) -> Ranks:
        """Join a process group of one rank, as a run of one does."""
        from pal_ds.distributed import ranks

        return ranks.start(60.0, self.device.type)

    def launch(self, words: list[str], *, plain: bool = True) -> subprocess.Popen[str]:
        """Start training through the deepspeed launcher; stdout and stderr come together.

        Where tiny and ``plain``, without the launcher, which takes longer than the training then.
        """
        port = str(free_port())
        command = [
            sys.executable,
            "-m",
            "deepspeed.launcher.runner",
            "--num_accelerators",
            "1",
            "--master_port",
            port,
        ]
        if self.tiny and plain:
            command = [sys.executable]
        return subprocess.Popen(
            [*command, "launch/pretrain.py", "--config", LETTER, *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _free(self) -> list[str]:
        """Settings that keep short runs short: no validation, a constant rate, every step logged."""
        calm = [
            "validation.every_epochs=0",
            "schedule.name=constant",
            "log.every_steps=1",
            "log.tensorboard=false",
        ]
        return [*calm, "data.retry_seconds=30", "safety.watchdog_seconds=90"]


def free_port() -> int:
    """Return a free TCP port of this machine."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def difference(one: torch.Tensor, two: torch.Tensor) -> float:
    """Return the largest difference of two tensors by the largest value of the second."""
    one, two = one.detach().double().cpu(), two.detach().double().cpu()
    return float((one - two).abs().max() / two.abs().max().clamp(min=1e-30))
