#!/usr/bin/env python
"""One rank of the comparison: this project's whole training loop and a bare PyTorch loop, block by block in turn.

Started by ``run.py`` through the launcher. The trainer is the real one, with its logs, guards and watchdog; only its
batches are made up, and between two blocks of its steps the feed runs a block of the bare loop: forward, backward,
Adam, key encoder, queue, on the same model and batches, under DistributedDataParallel where there are several ranks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pal_ds.config import Config, load_config
from pal_ds.data.loader import LoaderStats
from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ViewBatch, build_objective, convert_sync_batchnorm
from pal_ds.training.pretrain import pretrain

_BATCHES = 4


@dataclasses.dataclass(frozen=True)
class MadeBatch:
    """A micro-batch of noise: its views, and digests as a real one has."""

    views: ViewBatch
    digests: Tensor


class MadeFeed:
    """An endless feed of made batches that notes when each is asked for.

    Attributes:
        asked: seconds on the monotonic clock, one for each micro-batch.
    """

    def __init__(self, config: Config, ranks: Ranks, *, step: int) -> None:
        del step
        self.wait_seconds = 0.0
        self.asked: list[float] = []
        self._ranks = ranks
        size = config.data.global_batch // config.data.accumulation // ranks.world_size
        self._batches = [_made_batch(config, size, ranks, seed) for seed in range(_BATCHES)]

    def next(self) -> tuple[MadeBatch | None, Exception | None]:
        """Return the next batch."""
        if self._ranks.device.type == "cuda":
            torch.cuda.synchronize()
        self.asked.append(time.perf_counter())
        return self.batch(len(self.asked)), None

    def batch(self, number: int) -> MadeBatch:
        """Return one of the batches in turn."""
        return self._batches[number % _BATCHES]

    def views(self, micro: MadeBatch) -> ViewBatch:
        """Return the batch's views."""
        return micro.views

    def take_replaced(self) -> list[dict[str, Any]]:
        """Return no replaced clips."""
        return []

    def stats(self) -> LoaderStats:
        """Return empty counters."""
        return LoaderStats()

    def close(self) -> None:
        """Do nothing."""


class TurnsFeed(MadeFeed):
    """A feed that runs a block of the bare loop between two blocks of the trainer's steps.

    Attributes:
        ours: seconds of each of the trainer's blocks.
        bare: seconds of each of the bare loop's.
        ours_processor: processor seconds of this process in each of the trainer's blocks.
        bare_processor: the same of the bare loop's.
    """

    def __init__(self, config: Config, ranks: Ranks, *, step: int, block: int) -> None:
        super().__init__(config, ranks, step=step)
        self._block = block
        self._bare_loop = BareLoop(config, ranks)
        self._count = 0
        self._since = (0.0, 0.0)
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.ours_processor: list[float] = []
        self.bare_processor: list[float] = []

    def next(self) -> tuple[MadeBatch | None, Exception | None]:
        """Return the next batch; at the end of a block, after a block of the bare loop."""
        if self._count % self._block == 0:
            started = self._now()
            if self._count:
                self.ours.append(started[0] - self._since[0])
                self.ours_processor.append(started[1] - self._since[1])
            for number in range(self._block):
                self._bare_loop.step(self.batch(number).views)
            self._since = self._now()
            self.bare.append(self._since[0] - started[0])
            self.bare_processor.append(self._since[1] - started[1])
        self._count += 1
        return self.batch(self._count), None

    def _now(self) -> tuple[float, float]:
        if self._ranks.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


class BareLoop:
    """What a person would write in an afternoon: no guards, no logs, no engine."""

    def __init__(self, config: Config, ranks: Ranks) -> None:
        torch.manual_seed(config.run.seed)
        objective = build_objective(config.objective, config.model, config.queue).to(ranks.device)
        self._ranks = ranks
        self._objective: Any = objective
        self._model: Any = objective
        if ranks.world_size > 1:
            self._objective = convert_sync_batchnorm(objective)
            self._model = torch.nn.parallel.DistributedDataParallel(self._objective, broadcast_buffers=False)
        trained = [parameter for parameter in self._objective.parameters() if parameter.requires_grad]
        self._adam = torch.optim.Adam(trained, lr=1e-4, weight_decay=1e-5, fused=True)
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
        self._autocast = torch.autocast(ranks.device.type, dtype=dtype, enabled=dtype is not None)

    def step(self, batch: ViewBatch) -> None:
        """Run one optimizer step."""
        self._adam.zero_grad(set_to_none=True)
        with self._autocast:
            output = self._model(batch)
        output.loss.backward()
        self._adam.step()
        keys_nd = output.staged
        if self._ranks.world_size > 1:
            gathered = keys_nd.new_empty(self._ranks.world_size * len(keys_nd), keys_nd.shape[1])
            dist.all_gather_into_tensor(gathered, keys_nd.contiguous())
            keys_nd = gathered
        self._objective.after_step(keys_nd)


def _made_batch(config: Config, size: int, ranks: Ranks, seed: int) -> MadeBatch:
    made = torch.Generator().manual_seed(1000 * ranks.rank + seed)
    synthesis = config.synthesis
    shape = (size, synthesis.view_clips, 3, synthesis.clip_frames, synthesis.size, synthesis.size)
    region_b2 = torch.tensor([[2, 3]]).repeat(size, 1)
    views = ViewBatch(
        query_bjcthw=torch.randn(shape, generator=made).to(ranks.device),
        key_bjcthw=torch.randn(shape, generator=made).to(ranks.device),
        query_region_b2=region_b2.to(ranks.device),
        key_region_b2=region_b2.to(ranks.device),
    )
    groups = size // config.data.group_size
    digests = torch.randint(0, 256, (groups, 8), generator=made, dtype=torch.uint8)
    return MadeBatch(views, digests)


def main() -> int:
    """Run one rank; rank 0 writes what it measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--block", type=int, default=0, help="steps of a block; 0 times the trainer alone")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--local_rank")
    parser.add_argument("settings", nargs="*")
    args = parser.parse_intermixed_args()
    config = load_config(args.config, args.settings)
    feeds: list[MadeFeed] = []
    place: list[Ranks] = []

    def feed_of(config: Config, ranks: Ranks, *, step: int) -> MadeFeed:
        feed = (
            TurnsFeed(config, ranks, step=step, block=args.block)
            if args.block
            else MadeFeed(config, ranks, step=step)
        )
        feeds.append(feed)
        place.append(ranks)
        return feed

    status = pretrain(config, feed_of=feed_of)
    if status == 0 and place[0].is_first:
        feed = feeds[0]
        figures: dict[str, Any] = {"asked": feed.asked, "threads": torch.get_num_threads()}
        if isinstance(feed, TurnsFeed):
            names = ("ours", "bare", "ours_processor", "bare_processor")
            figures |= {name: getattr(feed, name) for name in names}
        if place[0].device.type == "cuda":
            figures["device"] = torch.cuda.get_device_name()
        args.out.write_text(json.dumps(figures))
    return status


if __name__ == "__main__":
    sys.exit(main())
