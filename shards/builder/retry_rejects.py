"""``pal-shard retry``: tries the rejects again whose cause may have passed."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Sequence

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest, ShardEntry

from ..catalog.rows import Reject, Row
from ..errors import UsageError
from .build import make, planned, write_begin
from .build_options import BuildOptions
from .comparing import begun_append
from .finish import BuildResult, read_rejects, read_stages, result_of
from .journal import Journal, Part, recipe_differences
from .shard_plan import PlannedShard

_TRANSIENT = re.compile(r"timed out|killed by signal|gone since the catalog|the store refuses")
#: Found out by the catalog: the plan itself would have to change.
_OF_CATALOG = ("catalog", "duplicate", "label")


def is_transient(reject: Reject) -> bool:
    """Tell whether a reject may succeed when tried again: a timeout, a killed tool, a source out of reach."""
    return reject.stage in ("transcode", "verify", "read", "probe", "missing") and bool(
        _TRANSIENT.search(reject.error)
    )


def chosen_rejects(rejects: Sequence[Reject], only: Sequence[str]) -> set[str]:
    """Return the sources to try again: of a passing cause, or those that ``only`` names, whatever their cause.

    Args:
        rejects: of a finished set.
        only: stages, or pieces of errors; a reject that matches one of them is tried again.

    Raises:
        UsageError: ``only`` matches no reject that a build could turn out differently.
    """
    if not only:
        return {reject.source for reject in rejects if is_transient(reject)}
    found = {
        reject.source
        for reject in rejects
        if reject.stage not in _OF_CATALOG
        and any(text == reject.stage or text in reject.error for text in only)
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
        UsageError: there is no finished set at DEST, it has another recipe, or ``only`` matches nothing.
    """
    journal = Journal(options.dest)
    manifest = shardset.load_manifest(options.dest)
    if manifest.generation > 1:
        raise UsageError(
            f"DEST {storage.redact(options.dest)}: has {manifest.generation} generations: retry is for a set as it "
            "was built; mend the sources and append them"
        )
    listed = list(read_rejects(options.dest, manifest))
    # A duplicate has the source of the input that won over it.
    rejects = {reject.source: reject for reject in listed if reject.stage not in _OF_CATALOG}
    chosen = chosen_rejects(listed, only)
    if not chosen:
        return result_of(options.dest, manifest, read_stages(options.dest, manifest))
    with planned(options) as (plan, record, scratch):
        differences = recipe_differences(manifest.recipe, record.recipe)
        if differences:
            raise UsageError(f"retry needs the arguments of the build ({'; '.join(differences[:4])})")
        entries = {entry.name: entry for split in manifest.splits.values() for entry in split.shards}
        redo: list[str] = []
        parts: list[Part] = []
        for shard in plan.shards:
            rows = plan.rows(shard)
            name = shardset.shard_name(shard.split, shard.number)
            if any(row.source in chosen for row in rows):
                redo.append(name)
            else:
                parts.append(_part_of(options.dest, manifest, shard, rows, rejects, entries.get(name)))
        if not redo:
            if begun_append(journal, manifest) is None:
                journal.remove()
            return result_of(options.dest, manifest, read_stages(options.dest, manifest))
        for part in parts:
            journal.write_part(part)
        write_begin(journal, record, plan.catalog.rejects(), scratch)
        storage.remove(storage.join(options.dest, shardset.MANIFEST_NAME))
        for name in redo:
            for stale in (name, shardset.index_name(name)):
                storage.remove(storage.join(options.dest, stale))
        return make(options, journal, record, plan, scratch)


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
