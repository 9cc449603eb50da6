"""``--dry-run``: what a run would do and cost; writes nothing, reads manifests, and indexes for ``where``."""

from __future__ import annotations

import json
import sys

from pal_ds.config import Config, ConfigError
from pal_ds.data.sources import load_manifests
from pal_ds.planning.cluster_simulation import describe_forecast, forecast, parse_cluster
from pal_ds.planning.cost import describe_cost, job_of
from pal_ds.planning.hardware import GPUS, find_gpu
from pal_ds.planning.memory import check_memory, describe_memory
from pal_ds.planning.run_plan import describe_plan, plan_run


def dry_run(
    config: Config,
    world_size: int,
    *,
    as_json: bool,
    gpu: str | None = None,
    price: float = 3.0,
    cluster: str | None = None,
) -> int:
    """Print what a run would do; read nothing but manifests, and the indexes of sets with conditions.

    Args:
        config: the run.
        world_size: ranks to plan for; a cluster's GPUs take its place.
        as_json: one JSON object instead of lines.
        gpu: accelerator for an estimate of memory, time and cost; None leaves it out.
        price: money per GPU and hour.
        cluster: machines to simulate the run on, as ``nodes=4,gpus=8,...``; None leaves it out.

    Raises:
        ConfigError: the config can't be run on that world or in that GPU's memory, or the GPU or cluster is not
            understood.
    """
    machines = None if cluster is None else parse_cluster(cluster)
    world_size = machines.world_size if machines else world_size
    plan = plan_run(config, load_manifests(config.data.sources), world_size)
    figures = describe_plan(config, plan)
    if gpu is not None:
        found = find_gpu(gpu)
        if found is None:
            raise ConfigError("--gpu", gpu, f"not known; use one of {', '.join(GPUS)}")
        need = check_memory(config, plan.micro_batch, world_size, found.memory_gib)
        figures |= describe_memory(config, need, plan.micro_batch, world_size, found.memory_gib)
        epoch = plan.epoch
        job = job_of(
            config,
            videos=epoch.clips,
            clip_bytes=epoch.clip_bytes,
            gpu=found,
            gpus=world_size,
            price=price,
            steps=plan.total_steps,
        )
        figures |= describe_cost(job)
    if machines is not None:
        figures |= describe_forecast(machines, forecast(config, plan.epoch, machines))
    if as_json:
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    else:
        width = max(len(name) for name in figures)
        sys.stdout.writelines(f"{name:<{width}}  {value}\n" for name, value in figures.items())
    return 0
