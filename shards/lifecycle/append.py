"""``pal-shard append``: puts new clips into a finished set, as a new generation of it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_files import rejects_name
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry
from pal_ds.storage.scratch import scratch_folder

from ..builder.build import Say, finish_tasks, make, planned, write_begin
from ..builder.build_options import BuildOptions
from ..builder.comparing import refuse_difference
from ..builder.finish import BuildResult, merged, read_rejects
from ..builder.journal import Journal, PlanRecord
from ..builder.partial_results import planned_result
from ..builder.shard_plan import PlannedShard
from ..catalog.gather import Catalog
from ..catalog.rows import Row
from ..encoding.profiles import PROFILES
from ..errors import BuildError, UsageError
from .audit import read_removals
from .generations import commit, following, next_numbers, read_indexes
from .remove import finish_change

_ENCODING = ("short_side", "fps", "gop", "crf")


def inherit(arguments: argparse.Namespace, manifest: Manifest) -> None:
    """Fill in what ``append`` does unless told otherwise: encode, label and split as the set was built.

    Raises:
        UsageError: labels are asked for in a set without any.
    """
    recipe = manifest.recipe
    chosen = [arguments.profile, *(getattr(arguments, name) for name in _ENCODING)]
    unchosen = set(chosen) == {None} and not arguments.copy and not arguments.copy_if_conforming
    if unchosen and recipe.get("profile") in PROFILES:
        arguments.profile = recipe["profile"]
        arguments.copy_if_conforming = bool(recipe.get("copy_if_conforming"))
        for name in _ENCODING if not PROFILES[arguments.profile].copy else ():
            setattr(arguments, name, recipe.get(name))
    if manifest.labels is None and arguments.with_labels:
        raise UsageError("--with-labels: the set was made without labels: leave it out, or build it anew")
    arguments.with_labels = manifest.labels is not None
    if arguments.split is None and not arguments.split_column and arguments.val_fraction is None:
        arguments.split = recipe.get("split")
        arguments.split_column = bool(recipe.get("split_column"))
        arguments.val_fraction = recipe.get("val_fraction")


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
    with scratch_folder(options.scratch) as scratch:
        finish_change(options.dest, scratch, quiet=options.quiet)
    manifest = shardset.load_manifest(options.dest)
    begun = pending(journal, manifest)
    with planned(options, _screen(options.dest, manifest)) as (plan, bare, scratch):
        if options.dry_run:
            return planned_result(options.dest, plan)
        if begun is None and not plan.inputs:
            if options.measures:
                journal.remove()
            return append_result(options.dest)
        first = first_numbers(options.dest, manifest, begun)
        record = dataclasses.replace(
            bare,
            shards=tuple(
                dataclasses.replace(shard, number=shard.number + first.get(shard.split, 0))
                for shard in bare.shards
            ),
        )
        where = f"DEST {storage.redact(options.dest)}"
        if begun is not None:
            refuse_difference(f"{where}: something else is being appended", begun.recipe, record.recipe)
        else:
            write_begin(journal, record, plan.catalog.rejects(), scratch)

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
    """Return the plan of an append under way; what a finished one left behind is removed."""
    begun = journal.read_plan()
    if begun is not None and (begun.recipe == manifest.recipe or begun.recipe in manifest.appended):
        journal.remove()
        return None
    return begun


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
    merger.add_untried(read_rejects(dest, manifest))
    generation = manifest.generation + 1
    path = scratch / shardset.REJECTS_NAME
    merger.write_rejects(path)
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


def first_numbers(dest: str, manifest: Manifest, begun: PlanRecord | None) -> dict[str, int]:
    """Return by how much each split's shard numbers are moved: behind all that were ever used."""
    if begun is None:
        return next_numbers(dest, (entry.name for entry in manifest.shards()))
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
