"""What a run is going to do, in numbers, before it does it: the dry run."""

from __future__ import annotations

import dataclasses
from typing import Any

from pal_ds.config import Config, ConfigError
from pal_ds.data.order.epoch_order import EpochPlan, allowed_world_sizes
from pal_ds.formats.shardset import Manifest, SplitEntry
from pal_ds.planning.streaming_load import describe_streaming


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """The arithmetic of a run.

    Attributes:
        epoch: the geometry of the training split.
        total_steps: optimizer steps of the whole run.
        micro_batch: videos per rank and micro-step.
        world_size: ranks.
        has_validation: a ``val`` split exists and validation is asked for.
    """

    epoch: EpochPlan
    total_steps: int
    micro_batch: int
    world_size: int
    has_validation: bool


def plan_run(config: Config, manifest: Manifest, world_size: int) -> RunPlan:
    """Check a config against its shard set and world, and compute the plan.

    Raises:
        ConfigError: a split is missing, the batch does not divide, or a plateau schedule has no validation.
    """
    data = config.data
    split = _split(manifest, "train", config)
    allowed = allowed_world_sizes(data.global_batch, data.group_size, data.accumulation)
    if world_size not in allowed:
        raise ConfigError(
            "world size",
            world_size,
            f"does not divide global_batch / group_size / accumulation; use one of {allowed}",
        )
    epoch = EpochPlan.from_manifest(
        split,
        global_batch=data.global_batch,
        group_size=data.group_size,
        lanes_per_group=data.lanes,
        slice_bytes=data.slice_bytes,
        window_slices=data.window_slices,
    )
    total = epoch.steps_per_epoch * config.run.epochs
    if config.run.max_steps is not None:
        total = min(total, config.run.max_steps)
    has_validation = config.validation.wanted and "val" in manifest.splits
    if config.schedule.name == "plateau" and not has_validation:
        raise ConfigError(
            "schedule.name",
            "plateau",
            "needs a val split, and the shard set has none: build it with pal-shard build --val-fraction 0.02, "
            "or use schedule.name=cosine",
        )
    if config.validation.probe_every and manifest.labels is None:
        raise ConfigError(
            "validation.probe_every",
            config.validation.probe_every,
            "the shard set has no labels: build it with pal-shard build --with-labels, or set 0",
        )
    return RunPlan(
        epoch=epoch,
        total_steps=total,
        micro_batch=data.global_batch // (data.accumulation * world_size),
        world_size=world_size,
        has_validation=has_validation,
    )


def describe_plan(config: Config, plan: RunPlan) -> dict[str, Any]:
    """Return the plan's figures by name, as the dry run prints them."""
    epoch, data = plan.epoch, config.data
    per_rank = epoch.lanes // plan.world_size
    synthesis = config.synthesis
    frames = synthesis.view_clips * synthesis.clip_frames
    mean_region = (synthesis.region_min + synthesis.region_max) / 2 * synthesis.clip_frames
    sample_bytes = synthesis.views * (frames + mean_region) * synthesis.size**2 * 3
    return {
        "batch": f"{data.global_batch} videos = {plan.world_size} ranks x {plan.micro_batch} x "
        f"{data.accumulation} micro-steps",
        "groups": f"{epoch.groups_per_step} of {epoch.group_size} videos a step",
        "clips": epoch.clips,
        "steps per epoch": epoch.steps_per_epoch,
        "clips left out per epoch": epoch.dropped_clips,
        "total steps": plan.total_steps,
        "lanes": f"{epoch.lanes}, {per_rank} a rank",
        "bytes read per step": round(epoch.clip_bytes * data.global_batch),
        **describe_streaming(config, epoch, plan.world_size),
        "frames held per rank and micro-step (MB)": round(sample_bytes * plan.micro_batch / 1e6, 1),
        "queue turnover (steps)": round(config.queue.size / data.global_batch, 1),
        "validation": "on" if plan.has_validation else "off",
        "precision": config.precision,
        "ZeRO stage": config.zero_stage,
    }


def _split(manifest: Manifest, name: str, config: Config) -> SplitEntry:
    try:
        return manifest.splits[name]
    except KeyError:
        known = ", ".join(sorted(manifest.splits)) or "none"
        raise ConfigError(
            "data.shards", config.data.shards, f"the set has no {name!r} split (it has {known})"
        ) from None
