"""What a run is going to do, in numbers, before it does it: the dry run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pal_ds import storage
from pal_ds.config import Config, ConfigError
from pal_ds.data.order.epoch_order import EpochPlan, allowed_world_sizes
from pal_ds.data.order.mix_plan import MixPlan
from pal_ds.data.sources import (
    OpenSource,
    common_labels,
    narrowed,
    plan_of,
    source_name,
    train_splits,
    val_splits,
)
from pal_ds.formats.shardset import Manifest
from pal_ds.planning.streaming_load import describe_streaming

#: Clips of the smallest group: a video and two backgrounds.
LEAST_VALIDATION = 3


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """The arithmetic of a run.

    Attributes:
        epoch: the geometry of the training split.
        total_steps: optimizer steps of the whole run.
        micro_batch: videos per rank and micro-step.
        world_size: ranks.
        has_validation: there are validation clips and validation is asked for.
        sources: the training split of each shard set.
        val_sources: the validation splits.
        labels: class names that all sets agree on; None where there are none.
    """

    epoch: EpochPlan
    total_steps: int
    micro_batch: int
    world_size: int
    has_validation: bool
    sources: tuple[OpenSource, ...] = ()
    val_sources: tuple[OpenSource, ...] = ()
    labels: tuple[str, ...] | None = None


def plan_run(config: Config, manifests: Sequence[Manifest], world_size: int) -> RunPlan:
    """Check a config against its shard sets and world, and compute the plan.

    Where a set has conditions (``where``), its indexes are read, unless this process knows already what they choose.

    Raises:
        ConfigError: a split is missing, the batch does not divide, or a plateau schedule has no validation.
    """
    data = config.data
    check_fit(config, manifests, world_size)
    sources = narrowed(train_splits(data.sources, manifests))
    epoch = plan_of(data, sources)
    total = epoch.steps_per_epoch * config.run.epochs
    if config.run.max_steps is not None:
        total = min(total, config.run.max_steps)
    labels = common_labels(manifests)
    found = narrowed(val_splits(data.sources, manifests)) if config.validation.wanted else []
    val_sources = tuple(source for source in found if source.split.clips)
    has_validation = bool(val_sources)
    val_clips = sum(source.split.clips for source in val_sources)
    if 0 < val_clips < LEAST_VALIDATION:
        raise ConfigError(
            "data.shards",
            f"{val_clips} validation clips",
            f"a group needs {LEAST_VALIDATION}: raise --val-fraction when sharding, loosen where, or switch "
            "validation off",
        )
    if config.schedule.name == "plateau" and not has_validation:
        raise ConfigError(
            "schedule.name",
            "plateau",
            "needs validation clips, and there are none: the shard set has no val split (pal-shard build "
            "--val-fraction 0.02 makes one), or where or val_split leaves none; or use schedule.name=cosine",
        )
    _check_labels(config, manifests)
    return RunPlan(
        epoch=epoch,
        total_steps=total,
        micro_batch=data.global_batch // (data.accumulation * world_size),
        world_size=world_size,
        has_validation=has_validation,
        sources=tuple(sources),
        val_sources=val_sources,
        labels=labels,
    )


def check_fit(config: Config, manifests: Sequence[Manifest], world_size: int) -> None:
    """Check what manifests alone tell: the splits are there, and the ranks can share a batch.

    Raises:
        ConfigError: a split is missing, or the batch does not divide.
    """
    _check_splits(config, manifests)
    data = config.data
    allowed = allowed_world_sizes(data.global_batch, data.group_size, data.accumulation)
    if world_size not in allowed:
        raise ConfigError(
            "world size",
            world_size,
            f"does not divide global_batch / group_size / accumulation; use one of {allowed}",
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
        **_describe_sources(plan),
        "steps per epoch": epoch.steps_per_epoch,
        "clips left out per epoch": epoch.dropped_clips,
        "total steps": plan.total_steps,
        "lanes": f"{epoch.lanes}, {per_rank} a rank",
        "bytes read per step": round(epoch.clip_bytes * data.global_batch),
        **describe_streaming(config, epoch, plan.world_size),
        "frames held per rank and micro-step (MB)": round(sample_bytes * plan.micro_batch / 1e6, 1),
        "queue turnover (steps)": round(config.queue.size / data.global_batch, 1),
        "validation": _describe_validation(plan),
        "precision": config.precision,
        "ZeRO stage": config.zero_stage,
    }


def _describe_sources(plan: RunPlan) -> dict[str, str]:
    """Return a line for each shard set of a mix, and for a single one of which only a part is used."""
    epoch = plan.epoch
    lines = {}
    for number, source in enumerate(plan.sources):
        chosen = source.split.clips
        whole = source.manifest.splits[source.name].clips
        text = f"{source_name(source)}: {chosen} clips" + (f" of {whole}" if source.selection else "")
        if isinstance(epoch, MixPlan):
            drawn = epoch.sources[number].epoch_clips
            share = drawn / (epoch.steps_per_epoch * epoch.global_batch)
            text += f"; {drawn} an epoch: {share:.1%} of all, {drawn / chosen:.2f} passes"
        elif source.selection is None:
            continue
        lines[f"shard set {number}"] = text
    return lines


def _describe_validation(plan: RunPlan) -> str:
    if not plan.has_validation:
        return "off"
    if len(plan.sources) == 1:
        return "on"
    clips = sum(source.split.clips for source in plan.val_sources)
    return f"on, {clips} clips of shard sets {', '.join(str(source.number) for source in plan.val_sources)}"


def _check_splits(config: Config, manifests: Sequence[Manifest]) -> None:
    for source, manifest in zip(config.data.sources, manifests, strict=True):
        wanted = [source.split] + ([source.val_split] if source.val_split else [])
        for name in wanted:
            if name not in manifest.splits:
                known = ", ".join(sorted(manifest.splits)) or "none"
                raise ConfigError(
                    "data.shards",
                    storage.redact(source.url),
                    f"the set has no {name!r} split (it has {known})",
                )


def _check_labels(config: Config, manifests: Sequence[Manifest]) -> None:
    """Refuse what needs classes where the sets have none in common."""
    if common_labels(manifests) is not None:
        return
    differ = len({manifest.labels for manifest in manifests}) > 1
    fix = (
        "the shard sets have different labels: leave out those that differ"
        if differ
        else "the shard set has no labels: build it with pal-shard build --with-labels"
    )
    if config.validation.probe_every:
        raise ConfigError("validation.probe_every", config.validation.probe_every, f"{fix}, or set 0")
    if config.objective.name == "supervised" and differ:
        raise ConfigError("objective.name", config.objective.name, fix)
