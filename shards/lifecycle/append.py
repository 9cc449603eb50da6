"""``pal-shard append``: puts new clips into a finished set, as a new generation of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_files import rejects_name, shard_name
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry
from pal_ds.storage.scratch import scratch_folder

from ..builder.build import finish_tasks, make, write_begin
from ..builder.build_options import BuildOptions
from ..builder.comparing import begun_append, begun_plan, refuse_difference, remove_leftovers
from ..builder.finish import BuildResult, merged, read_rejects
from ..builder.journal import Journal
from ..builder.partial_results import planned_result
from ..builder.planning import Say, planned
from ..builder.shard_plan import PlannedShard
from ..builder.unfinished import PlanRecord
from ..catalog.gather import Catalog
from ..catalog.rows import Reject, Row
from ..errors import BuildError, UsageError
from .audit import read_removals
from .generations import commit, following, next_numbers, read_indexes
from .intent import read_intent


def append(options: BuildOptions) -> BuildResult:
    """Make shards of the inputs that are not in the set yet, and publish them as its next generation.

    Run again after an interruption it goes on; the tars that were there are never touched.

    Raises:
        UsageError: the options or DEST don't allow it.
        BuildError: the work can't go on.
        StorageError: a store refuses or fails.
    """
    if options.overwrite:
        raise UsageError("append adds to a set and --overwrite removes it: leave one out")
    journal = Journal(options.dest)
    manifest = shardset.load_manifest(options.dest)
    pending(journal, manifest)
    with planned(options, _screen(options.dest, manifest)) as (plan, bare, scratch):
        if options.dry_run:
            return planned_result(options.dest, plan)
        begun, first = place_after(journal, manifest)
        if begun is None and not plan.inputs:
            if options.measures:
                journal.remove()
            return append_result(options.dest)
        record = dataclasses.replace(
            bare,
            shards=tuple(
                dataclasses.replace(shard, number=shard.number + first.get(shard.split, 0))
                for shard in bare.shards
            ),
            appended=len(manifest.appended),
            retried=tuple(
                reject.source
                for reject in read_rejects(options.dest, manifest)
                if reject.is_of_plan and plan.catalog.was_cut(reject.source)
            ),
        )
        if begun is not None:
            refuse_other_append(journal, begun, record)
        else:
            begin_append(journal, record, plan.catalog.rejects(), scratch)

        def rows_of(shard: PlannedShard) -> list[Row]:
            return plan.rows(dataclasses.replace(shard, number=shard.number - first.get(shard.split, 0)))

        return make(options, journal, record, plan, scratch, rows_of=rows_of, end=finish_append)


def finish(dest: str) -> BuildResult:
    """Finish what several tasks built or appended.

    Raises:
        UsageError: nothing was begun there.
        BuildError: shards are missing.
    """
    journal = Journal(dest)
    if shardset.MANIFEST_NAME in journal.names():
        record = pending(journal, shardset.load_manifest(dest))
        if record is not None:
            with scratch_folder() as scratch:
                return finish_append(journal, record, scratch)
    return finish_tasks(dest)


def pending(journal: Journal, manifest: Manifest) -> PlanRecord | None:
    """Return the plan of an append under way; what a finished one left behind is removed.

    Raises:
        UsageError: shards are said to be finished of which no plan tells.
    """
    if begun_plan(journal) is not None:
        remove_leftovers(journal, manifest)
    return begun_append(journal, manifest)


def place_after(journal: Journal, manifest: Manifest) -> tuple[PlanRecord | None, dict[str, int]]:
    """Return the plan of the append under way, and by how much each split's new shard numbers are moved.

    Called when the inputs are known: several tasks gather them at the same time, and the first of them to get there
    publishes the plan that holds for all.

    Raises:
        BuildError: another append has ended since ``manifest`` was read.
    """
    # Numbers before the plan: where there is no plan after them, no task had made a shard when they were looked up,
    # so that all tasks that come to publish a plan publish the same.
    first = first_numbers(journal.dest, manifest)
    if len(shardset.load_manifest(journal.dest).appended) != len(manifest.appended):
        raise BuildError(
            f"DEST {storage.redact(journal.dest)}: another append has ended meanwhile: run the same command again"
        )
    begun = pending(journal, manifest)
    return begun, first if begun is None else _numbers_of(begun)


def begin_append(journal: Journal, record: PlanRecord, rejects: Iterable[Reject], scratch: Path) -> None:
    """Publish the plan of an append.

    Raises:
        BuildError: a removal has taken the same shard numbers at the same moment.
    """
    write_begin(journal, record, rejects, scratch)
    # The removal looks at plans after its own names are published: one of the two sees the other.
    intent = read_intent(journal.dest)
    if intent is not None and intent.names & {shard_name(each.split, each.number) for each in record.shards}:
        journal.remove()
        raise BuildError(
            f"DEST {storage.redact(journal.dest)}: a removal has begun meanwhile: run the same command again"
        )


def refuse_other_append(journal: Journal, begun: PlanRecord, wanted: PlanRecord) -> None:
    """Refuse to append something else than what was begun.

    Raises:
        UsageError: it is something else.
    """
    refuse_difference(
        f"DEST {storage.redact(journal.dest)}: something else is being appended",
        begun.recipe,
        wanted.recipe,
        fix="end that append first, or give it up with pal-shard clean --unfinished",
    )


def finish_append(journal: Journal, plan: PlanRecord, scratch: Path, *, redone: int = 0) -> BuildResult:
    """Check that all shards are there and publish the next generation.

    Raises:
        BuildError: shards are missing.
        StorageError: DEST can't be read or written.
    """
    dest = journal.dest
    manifest = shardset.load_manifest(dest)
    merger = merged(journal, plan, scratch)
    new, stages, added = merger.splits(), merger.stages(), merger.count()
    clips = sum(split.clips for split in new.values())
    if plan.inputs is not None and clips + added != plan.inputs:
        raise BuildError(
            f"{plan.inputs} inputs, but {clips} clips and {added} rejects: give it up with pal-shard clean "
            "--unfinished and append again"
        )
    retried = set(plan.retried)
    merger.add_untried(reject for reject in read_rejects(dest, manifest) if reject.source not in retried)
    generation = manifest.generation + 1
    path = scratch / shardset.REJECTS_NAME
    merger.write_rejects(path)
    if not new and path.read_bytes() == storage.read_bytes(storage.join(dest, manifest.rejects_file)):
        # The same inputs were rejected for the same reasons as before.
        merger.close()
        journal.remove()
        return append_result(dest, added, stages)
    storage.upload_file(path, storage.join(dest, rejects_name(generation)))
    labels = None if manifest.labels is None else tuple(sorted({*manifest.labels, *merger.labels}))
    splits = {name: _joined(manifest.splits.get(name), new.get(name)) for name in {**manifest.splits, **new}}
    after = dataclasses.replace(
        following(manifest, splits),
        labels=labels,
        rejected=merger.count(),
        appended=(*manifest.appended, plan.recipe),
        rejects_generation=generation,
    )
    merger.close()
    commit(dest, after)
    journal.remove()
    return append_result(dest, clips + added, stages, new, redone)


def _screen(dest: str, manifest: Manifest) -> Callable[[Catalog, Say], None]:
    """Return what takes the inputs out of a catalog that are in the set already, or were taken down from it."""

    def screen(catalog: Catalog, say: Say) -> None:
        database = catalog.database
        database.execute("BEGIN")
        database.execute("DROP TABLE IF EXISTS known")
        database.execute("CREATE TABLE known (key TEXT PRIMARY KEY) WITHOUT ROWID")
        removed = list(read_removals(dest))
        database.executemany("INSERT OR IGNORE INTO known VALUES (?)", ((key,) for key in removed))
        query = "SELECT count(*) FROM inputs WHERE key IN (SELECT key FROM known)"
        stay_out = database.execute(query).fetchone()[0]
        for index in read_indexes(dest, [entry.name for entry in manifest.shards()]):
            keys = ((sample.key,) for sample in index.samples)
            database.executemany("INSERT OR IGNORE INTO known VALUES (?)", keys)
        present = database.execute(query).fetchone()[0] - stay_out
        database.execute("DELETE FROM inputs WHERE key IN (SELECT key FROM known)")
        database.execute("COMMIT")
        if present:
            say(f"passed over {present} inputs that are in the set already")
        if stay_out:
            say(f"passed over {stay_out} inputs that were taken down from the set (removals.jsonl)")

    return screen


def first_numbers(dest: str, manifest: Manifest) -> dict[str, int]:
    """Return by how much each split's shard numbers are moved: behind all that were ever used or are reserved."""
    intent = read_intent(dest)
    reserved = intent.names if intent is not None else set()
    return next_numbers(dest, [*reserved, *(entry.name for entry in manifest.shards())])


def _numbers_of(begun: PlanRecord) -> dict[str, int]:
    """Return by how much the numbers of a plan that was published are moved."""
    first: dict[str, int] = {}
    for shard in begun.shards:
        first[shard.split] = min(first.get(shard.split, shard.number), shard.number)
    return first


def _joined(old: SplitEntry | None, new: SplitEntry | None) -> SplitEntry:
    shards: tuple[ShardEntry, ...] = (*(old.shards if old else ()), *(new.shards if new else ()))
    parts = [split for split in (old, new) if split is not None]
    return SplitEntry(
        clips=sum(split.clips for split in parts),
        frames=sum(split.frames for split in parts),
        seconds=round(sum(split.seconds for split in parts), 6),
        bytes=sum(split.bytes for split in parts),
        shards=shards,
    )


def append_result(
    dest: str,
    inputs: int = 0,
    stages: Mapping[str, int] = MappingProxyType({}),
    splits: Mapping[str, SplitEntry] = MappingProxyType({}),
    redone: int = 0,
) -> BuildResult:
    """Describe what an append came to: by default, that nothing was new."""
    totals: dict[str, dict[str, Any]] = {
        name: {
            "clips": split.clips,
            "shards": len(split.shards),
            "bytes": split.bytes,
            "seconds": split.seconds,
            "frames": split.frames,
        }
        for name, split in sorted(splits.items())
    }
    return BuildResult(
        dest=storage.redact(dest),
        state="appended",
        inputs=inputs,
        clips=sum(split.clips for split in splits.values()),
        rejected=sum(stages.values()),
        rejects=dict(stages),
        splits=totals,
        redone=redone,
    )
