"""Rendering before and now: operators and host time a video, the two forms in turns in one process.

The form before is the oracle that the tests keep. Operators are counted by a dispatch mode (views and allocations
apart) on the device ``meta``, where nothing is computed: they are what an accelerator is given.

Host time is CPU time of one thread on pictures of 8 pixels. The form now gives 32 views at a time to as many
operators as a single one (a test holds it to that), so their time is taken from a group of three videos, where they
have least to compute, and that of the tables on the host from all videos. It is what torch needs to dispatch; what a
driver needs to launch a kernel comes on top. The last row renders full pictures on this CPU, one by one in both.

    python -m benchmarks.streaming.rendering --out benchmarks/streaming/rendering.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import MicroBatch
from pal_ds.data.synthesis import batch_render
from pal_ds.data.synthesis.batch_render import VIEWS_AT_ONCE, render_together
from pal_ds.data.synthesis.render import render
from tests.support import made_groups, old_render

AUGMENT = AugmentConfig()
FULL = SynthesisConfig()
SMALL = SynthesisConfig(size=8, clips=2, clip_frames=2, region_max=2)
GROUP = 8


def operators(videos: int) -> dict[str, float]:
    """Return kernels and all operators a video, before and now, on the device ``meta``."""
    micro = made_groups.made_batch(videos // GROUP, GROUP, FULL, AUGMENT).to("meta")
    found = {}
    for name, form in _forms(micro, FULL).items():
        with torch.no_grad(), made_groups.Operators() as counted:
            form()
        found[f"kernels_{name}"] = counted.kernels / videos
        found[f"operators_{name}"] = sum(counted.counts.values()) / videos
    return found


def host_milliseconds(videos: int, rounds: int) -> dict[str, float]:
    """Return milliseconds of CPU a video that the host is busy with, before and now."""
    micro = _small(videos // GROUP, GROUP)
    few = _small(1, 3)
    chunks = -(-videos * SMALL.views // VIEWS_AT_ONCE)
    frames = SMALL.view_clips * SMALL.clip_frames

    def tables() -> None:
        table = batch_render._table(micro.groups, SMALL)
        for first in range(0, len(table.ground), VIEWS_AT_ONCE):
            chunk = slice(first, first + VIEWS_AT_ONCE)
            batch_render._numbers(table, chunk, SMALL.size, frames, True, 1)

    def launches() -> None:
        for _ in range(chunks):
            render_together(few.groups, SMALL, AUGMENT, torch.float32)

    def now() -> None:
        tables()
        launches()

    before = made_groups.as_before(micro)
    forms = {"before": lambda: old_render.render(before, SMALL, AUGMENT), "now": now}
    return milliseconds(videos, forms, rounds, time.process_time)


def _small(groups: int, clips: int) -> MicroBatch:
    micro: MicroBatch = made_groups.made_batch(groups, clips, SMALL, AUGMENT, height=9, width=9)
    return micro.clone()


def milliseconds(
    videos: int, forms: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Return milliseconds a video of each form, and the median ratio of neighbours, over rounds in turns."""
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        # No blur is drawn twice in a run, so that the old form's cache never helped.
        old_render._gaussian_matrix.cache_clear()
        for name, form in forms.items():
            begun = clock()
            form()
            taken[name].append(1e3 * (clock() - begun) / videos)
    ratios = [now / before for before, now in zip(taken["before"], taken["now"], strict=True)]
    medians = {name: statistics.median(each) for name, each in taken.items()}
    return {**medians, "ratio": statistics.median(ratios)}


def _forms(micro: MicroBatch, synthesis: SynthesisConfig) -> dict[str, Callable[[], Any]]:
    before = made_groups.as_before(micro)
    return {
        "before": lambda: old_render.render(before, synthesis, AUGMENT),
        "now": lambda: render_together(micro.groups, synthesis, AUGMENT, torch.float16),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, nargs="+", default=[8, 16, 64])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    result: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    result["operators"] = {videos: operators(videos) for videos in args.videos}
    full = made_groups.made_batch(1, GROUP, FULL, AUGMENT)
    forms = {**_forms(full, FULL), "now": lambda: render(full, FULL, AUGMENT)}
    result["cpu_ms"] = milliseconds(len(full), forms, args.rounds, time.perf_counter)
    torch.set_num_threads(1)
    result["host_ms"] = {videos: host_milliseconds(videos, args.rounds) for videos in args.videos}
    text = json.dumps(result, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
