"""Describes builds that did not finish a set: one of several tasks, and dry runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pal_ds import storage
from pal_ds.formats import shardset

from .finish import BuildResult
from .journal import Journal
from .shard_plan import Plan, PlannedShard


def task_result(journal: Journal, mine: Sequence[PlannedShard], redone: int) -> BuildResult:
    """Describe what one task of several came to."""
    stages: dict[str, int] = {}
    splits: dict[str, dict[str, float]] = {}
    for shard in mine:
        part = journal.read_part(shardset.shard_name(shard.split, shard.number))
        for reject in part.rejects:
            stages[reject.stage] = stages.get(reject.stage, 0) + 1
        if part.entry is not None:
            totals = splits.setdefault(
                shard.split, {"clips": 0, "shards": 0, "bytes": 0, "seconds": 0.0, "frames": 0}
            )
            for name, amount in (
                ("clips", part.entry.clips),
                ("shards", 1),
                ("bytes", part.entry.bytes),
                ("seconds", part.seconds),
                ("frames", part.frames),
            ):
                totals[name] += amount
    rejected = sum(stages.values())
    clips = int(sum(totals["clips"] for totals in splits.values()))
    return BuildResult(
        dest=storage.redact(journal.dest),
        state="task done",
        inputs=clips + rejected,
        clips=clips,
        rejected=rejected,
        rejects=dict(sorted(stages.items())),
        splits=splits,
        redone=redone,
    )


def planned_result(dest: str, plan: Plan) -> BuildResult:
    """Describe what a dry run would make."""
    shards = planned_shards(dest, plan.shards)
    stages: dict[str, int] = {}
    for reject in plan.catalog.rejects():
        stages[reject.stage] = stages.get(reject.stage, 0) + 1
    rejected = sum(stages.values())
    return dataclasses.replace(
        shards,
        inputs=plan.inputs,
        clips=plan.inputs - rejected,
        rejected=rejected,
        rejects=dict(sorted(stages.items())),
    )


def planned_shards(dest: str, shards: Sequence[PlannedShard]) -> BuildResult:
    """Describe shards that a dry run would make."""
    splits: dict[str, dict[str, float]] = {}
    for shard in shards:
        totals = splits.setdefault(shard.split, {"clips": 0, "shards": 0, "bytes": 0})
        totals["clips"] += shard.clips
        totals["shards"] += 1
        totals["bytes"] += shard.expected_bytes
    clips = sum(shard.clips for shard in shards)
    return BuildResult(
        dest=storage.redact(dest),
        state="planned",
        inputs=clips,
        clips=clips,
        rejected=0,
        rejects={},
        splits=splits,
    )
