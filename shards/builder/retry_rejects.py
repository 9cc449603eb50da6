"""``pal-shard retry``: tries the rejects again whose cause may have passed."""

from __future__ import annotations

import collections
import logging
import math
from collections.abc import Sequence
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest, ShardEntry

from ..catalog.rows import Reject, Row
from ..errors import UsageError
from .build import make, write_begin
from .build_options import BuildOptions
from .comparing import begun_append
from .finish import BuildResult, read_rejects, read_stages, result_of
from .journal import Journal, recipe_differences, settled_of
from .partial_results import planned_shards
from .planning import gathered, plan_of
from .shard_plan import Plan, PlannedShard
from .unfinished import Part

log = logging.getLogger(__name__)


def chosen_rejects(rejects: Sequence[Reject], only: Sequence[str]) -> set[str]:
    """Return the sources to try again: of a passing cause, or those that ``only`` names, whatever their cause.

    Args:
        rejects: of a finished set.
        only: stages, or pieces of errors; a reject that matches one of them is tried again.

    Raises:
        UsageError: ``only`` matches no reject that a build could turn out differently.
    """
    if not only:
        return {reject.source for reject in rejects if reject.is_transient and not reject.is_of_plan}
    found = {
        reject.source
        for reject in rejects
        if not reject.is_of_plan and any(text == reject.stage or text in reject.error for text in only)
    }
    if rejects and not found:
        stages = collections.Counter(reject.stage for reject in rejects)
        listed = ", ".join(f"{stage} {count}" for stage, count in sorted(stages.items()))
        raise UsageError(
            f"--only {' '.join(only)}: matches none of the rejects that can be tried again (there are: {listed}); "
            "give a stage, or a piece of an error in rejects.jsonl"
        )
    return found


def retry(options: BuildOptions, only: Sequence[str] = ()) -> BuildResult:
    """Make the shards again that have rejects to be tried again; the others keep their bytes.

    The set is what an undisturbed build would have made. Killed on the way, ``build`` goes on.

    Args:
        options: those of the build.
        only: see :func:`chosen_rejects`.

    Raises:
        UsageError: there is no finished set at DEST, it has another recipe, something is being appended to it, or
            ``only`` matches nothing.
    """
    if options.overwrite or options.task is not None:
        name = "--overwrite" if options.overwrite else "--task-index"
        raise UsageError(
            f"{name} has no effect on retry, which makes shards of a finished set anew: leave it out"
        )
    journal = Journal(options.dest)
    manifest = shardset.load_manifest(options.dest)
    if manifest.generation > 1:
        raise UsageError(
            f"DEST {storage.redact(options.dest)}: has {manifest.generation} generations: retry is for a set as it "
            "was built; mend the sources and append them"
        )
    if begun_append(journal, manifest) is not None:
        raise UsageError(
            f"DEST {storage.redact(options.dest)}: an append is under way: end it, or give it up with pal-shard "
            "clean --unfinished"
        )
    listed = list(read_rejects(options.dest, manifest))
    chosen = chosen_rejects(listed, only)
    _tell_of_uncut(listed)
    if not chosen:
        return result_of(options.dest, manifest, read_stages(options.dest, manifest))
    with gathered(options) as (catalog, recipe, scratch):
        # Before videos are looked into, which may take hours.
        _check_recipe({**manifest.recipe, "inputs": None}, {**recipe, "inputs": None})
        plan, record = plan_of(options, catalog, recipe, scratch, settled=settled_of(listed))
        _check_recipe(manifest.recipe, record.recipe)
        redo, parts = _divided(options.dest, manifest, plan, chosen, listed)
        if options.dry_run:
            return planned_shards(options.dest, redo)
        if not redo:
            journal.remove()
            return result_of(options.dest, manifest, read_stages(options.dest, manifest))
        # The build may have been killed after its manifest: its parts would pass for those of shards made anew.
        journal.remove()
        write_begin(journal, record, plan.catalog.rejects(), scratch)
        for part in parts:
            journal.write_part(part)
        storage.remove(storage.join(options.dest, shardset.MANIFEST_NAME))
        for name in (shardset.shard_name(shard.split, shard.number) for shard in redo):
            for stale in (name, shardset.index_name(name)):
                storage.remove(storage.join(options.dest, stale))
        return make(options, journal, record, plan, scratch)


def _tell_of_uncut(rejects: Sequence[Reject]) -> None:
    """Say which rejects may be none when tried again, and not by this command."""
    uncut = [reject for reject in rejects if reject.is_of_plan and reject.is_transient]
    if uncut:
        log.warning(
            "%d videos could not be looked into before they were cut, first %s (%s): pal-shard append with the same "
            "SOURCE tries them again",
            len(uncut),
            uncut[0].source,
            uncut[0].error,
        )


def _divided(
    dest: str, manifest: Manifest, plan: Plan, chosen: set[str], listed: Sequence[Reject]
) -> tuple[list[PlannedShard], list[Part]]:
    """Return the shards to be made anew, and the parts of those that stay."""
    # A duplicate has the source of the input that won over it.
    rejects = {reject.source: reject for reject in listed if not reject.is_of_plan}
    entries = {entry.name: entry for entry in manifest.shards()}
    redo: list[PlannedShard] = []
    parts: list[Part] = []
    for shard in plan.shards:
        rows = plan.rows(shard)
        if any(row.source in chosen for row in rows):
            redo.append(shard)
        else:
            entry = entries.get(shardset.shard_name(shard.split, shard.number))
            parts.append(_part_of(dest, manifest, shard, rows, rejects, entry))
    return redo, parts


def _check_recipe(built: dict[str, Any], wanted: dict[str, Any]) -> None:
    differences = recipe_differences(built, wanted)
    if differences:
        raise UsageError(f"retry needs the arguments of the build ({'; '.join(differences[:4])})")


def _part_of(
    dest: str,
    manifest: Manifest,
    shard: PlannedShard,
    rows: Sequence[Row],
    rejects: dict[str, Reject],
    entry: ShardEntry | None,
) -> Part:
    """Describe a shard that stays, from its index and the set's rejects."""
    name = shardset.shard_name(shard.split, shard.number)
    samples = shardset.load_index(dest, name).samples if entry is not None else ()
    kept = [row for row in rows if row.source not in rejects]
    if any(row.offset >= 0 for row in kept):
        labels = manifest.labels or ()
    else:
        labels = tuple(sorted({row.label for row in kept if row.label is not None}))
    return Part(
        shard=name,
        entry=entry,
        frames=sum(sample.frames for sample in samples),
        seconds=round(math.fsum(round(sample.frames / sample.fps, 6) for sample in samples), 6),
        labels=labels if manifest.labels is not None else (),
        rejects=tuple(rejects[row.source] for row in rows if row.source in rejects),
        contents=(),
    )
