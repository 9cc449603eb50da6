"""Training steps a second of the small network beside I3D at an eighth of its width, on one CPU thread.

    python -m benchmarks.learning.small_network [--turns 8]

One step is a step of PAL: query and key views of 16 videos of 8 clips, forward, backward, Adam, moving average. The
two networks take turns in one process; printed are samples a second and the ratio of each pair of turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.distributed.cpu_malloc import keep_freed
from pal_ds.models import Objective, ViewBatch, build_objective

VIDEOS, CLIPS, FRAMES, SIDE = 16, 8, 8, 56
NETWORKS = {"i3d at 1/8": ("i3d", 0.125), "tsm_resnet8 at 1/4": ("tsm_resnet8", 0.25)}


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.small_network", description=__doc__)
    parser.add_argument("--turns", type=int, default=8)
    turns = parser.parse_args(argv).turns
    torch.set_num_threads(1)
    keep_freed()
    views = torch.randn(2, VIDEOS, CLIPS, 3, FRAMES, SIDE, SIDE)
    region = torch.tensor([[2, 3]]).expand(VIDEOS, 2)
    batch = ViewBatch(
        query_bjcthw=views[0], key_bjcthw=views[1], query_region_b2=region, key_region_b2=region
    )
    steps = {name: _Steps(*network) for name, network in NETWORKS.items()}
    for each in steps.values():
        each.seconds(batch)
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, each in steps.items():
            rates[name].append(VIDEOS / each.seconds(batch))
    slow, fast = rates.values()
    ratios = sorted(quick / usual for usual, quick in zip(slow, fast, strict=True))
    found = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    print(json.dumps({"samples_per_second": found, "ratio": statistics.median(ratios), "ratios": ratios}))
    return 0


class _Steps:
    """Optimizer steps of PAL with one backbone."""

    def __init__(self, backbone: str, width: float) -> None:
        torch.manual_seed(0)
        model = ModelConfig(backbone=backbone, width=width, head_bn=True, final_relu=False, norm="region")
        self._objective: Objective = build_objective(
            ObjectiveConfig(), model, QueueConfig(size=64, mask_unfilled=True)
        )
        trained = [parameter for parameter in self._objective.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(trained, fused=True)

    def seconds(self, batch: ViewBatch) -> float:
        """Take one step and return how long it took."""
        began = time.perf_counter()
        output = self._objective(batch)
        output.loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._objective.after_step(output.staged)
        return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
