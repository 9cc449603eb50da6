"""A GPU whose memory is not enough: said before a run begins, and in one line where it happens all the same."""

from __future__ import annotations

import re

import torch

from pal_ds.config import Config
from pal_ds.distributed.ranks import Ranks
from pal_ds.planning.memory import GIB, memory_fix, warn_of_memory
from pal_ds.planning.run_plan import RunPlan


def warn_of_shortage(config: Config, ranks: Ranks, plan: RunPlan) -> None:
    """Log on rank 0 that a run is not expected to fit into its GPU; nothing on a CPU."""
    if ranks.is_first and ranks.device.type == "cuda":
        warn_of_memory(config, plan.micro_batch, ranks.world_size, _capacity_gib(ranks))


def explain_shortage(config: Config, ranks: Ranks, error: torch.OutOfMemoryError) -> str:
    """Return one line: what there was, how much was asked for, and what to set so that the run fits."""
    asked = re.search(r"Tried to allocate ([0-9.]+ [KMG]iB)", str(error))
    videos = config.data.global_batch // (config.data.accumulation * ranks.world_size)
    what = f"out of GPU memory on rank {ranks.rank} with {videos} videos a micro-step"
    if asked is not None:
        what += f", asking for {asked[1]} more"
    if ranks.device.type != "cuda":
        return f"{what}; set model.recompute_stages (the same gradients), or use more ranks"
    capacity = _capacity_gib(ranks)
    most = torch.cuda.max_memory_allocated(ranks.device) / GIB
    fix = memory_fix(config, ranks.world_size, capacity)
    return (
        f"{what}; {most:.1f} GiB of {capacity:.1f} were in use at most; {fix}, or try "
        "PYTORCH_ALLOC_CONF=expandable_segments:True where it is close"
    )


def _capacity_gib(ranks: Ranks) -> float:
    return float(torch.cuda.get_device_properties(ranks.device).total_memory) / GIB
