"""``pal-shard adopt``: a shard set that points at tars as they are, each of whose clips was decoded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pal_ds import storage
from pal_ds.ffmpeg import process
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest
from pal_ds.storage.scratch import scratch_folder

from ..builder.build import Finish, open_place, prepare, write_begin
from ..builder.finish import BuildResult, finish
from ..builder.journal import Journal
from ..builder.local_executor import ShardWork, run_local
from ..builder.partial_results import task_result
from ..builder.shard_plan import PlannedShard
from ..builder.unfinished import PlanRecord
from ..encoding.profiles import PROFILES
from ..errors import UsageError
from ..foreign_tars.finding import ForeignTar, TarShelf, find_tars
from ..lifecycle.append import append_result, begin_append, finish_append, place_after, refuse_other_append
from ..lifecycle.generations import read_indexes
from ..progress import Progress
from .adopter import Adopter, name_of
from .options import AdoptOptions, deal, recipe_of


def adopt(options: AdoptOptions) -> BuildResult:
    """Make a shard set of indexes alone, or finish one that was begun; the tars are only read.

    Raises:
        UsageError: the options, SOURCE or DEST don't allow it.
        BuildError: the work can't go on.
        StorageError: a store refuses or fails.
    """
    process.allow_again()
    with scratch_folder(options.scratch) as scratch:
        tars = find_tars(options.sources)
        _keep_apart(options.dest, tars)
        if options.append:
            return _append(options, tars, scratch)
        places = deal(options, tars)
        record = PlanRecord(
            recipe=recipe_of(options, tars), inputs=None, shards=tuple(place for place, _ in places)
        )
        journal = Journal(options.dest)
        open_place(journal, overwrite=options.overwrite, is_task=options.task is not None)
        finished = prepare(journal, record, begin=lambda: write_begin(journal, record, (), scratch))
        return finished or _make(options, journal, record, places, scratch)


def _keep_apart(dest: str, tars: Sequence[ForeignTar]) -> None:
    """Refuse a DEST in which tars lie that are adopted: they might be taken for the set's own."""
    here = storage.resolved(dest)
    for tar in tars:
        # Both where it is listed and where links lead: --overwrite deletes either.
        places = {storage.resolved(tar.url).rpartition("/")[0], storage.resolved(tar.url.rpartition("/")[0])}
        if here in places:
            raise UsageError(
                f"DEST {storage.redact(dest)}: holds SOURCE's {tar.relative!r}: use another folder"
            )


def _append(options: AdoptOptions, tars: Sequence[ForeignTar], scratch: Path) -> BuildResult:
    """Adopt the tars that a set does not point at yet, as its next generation."""
    dest = options.dest
    manifest = shardset.load_manifest(dest)
    if (manifest.labels is None) != (options.labels is None):
        have = "no labels" if manifest.labels is None else "labels"
        raise UsageError(
            f"DEST {storage.redact(dest)}: has {have}: --label-member must be given to all or none"
        )
    journal = Journal(dest)
    new = _unknown(dest, manifest, tars)
    begun, first = place_after(journal, manifest)
    if begun is None and not new:
        return append_result(dest)
    places = [
        (dataclasses.replace(shard, number=shard.number + first.get(shard.split, 0)), tar)
        for shard, tar in deal(options, new)
    ]
    record = PlanRecord(
        recipe=recipe_of(options, new),
        inputs=None,
        shards=tuple(place for place, _ in places),
        appended=len(manifest.appended),
    )
    if begun is not None:
        refuse_other_append(journal, begun, record)
    else:
        begin_append(journal, record, (), scratch)
    return _make(options, journal, record, places, scratch, end=finish_append)


def _unknown(dest: str, manifest: Manifest, tars: Sequence[ForeignTar]) -> list[ForeignTar]:
    """Return the tars that no shard of a set is of."""
    present = {entry.url for entry in manifest.shards()}
    names = {
        sample.video.record.source.removesuffix(f"/{sample.video.member}")
        for index in read_indexes(dest, [entry.name for entry in manifest.shards() if entry.is_adopted])
        for sample in index.samples[:1]
        if sample.video is not None
    }
    new = [tar for tar in tars if tar.url not in present]
    for tar in new:
        if tar.relative in names:
            raise UsageError(
                f"the set has another tar called {tar.relative!r}: give the common parent as SOURCE, or rename it"
            )
    return new


def _make(
    options: AdoptOptions,
    journal: Journal,
    record: PlanRecord,
    places: Sequence[tuple[PlannedShard, ForeignTar]],
    scratch: Path,
    end: Finish = finish,
) -> BuildResult:
    mine = places[0 if options.task is None else options.task :: options.tasks]
    done = journal.finished_shards()
    todo = [(shard, tar) for shard, tar in mine if name_of(shard) not in done]
    work = ShardWork(
        dest=storage.absolute(options.dest),
        roots=("/",),
        profile=PROFILES["copy"],
        limits=options.limits,
        with_labels=options.labels is not None,
    )
    shelf = TarShelf([tar for _, tar in todo], options.videos, scratch)
    try:
        with Progress(0, quiet=options.quiet) as progress:
            if len(todo) < len(mine):
                progress.note(f"{len(mine) - len(todo)} of {len(mine)} tars were finished before: going on")
            adopter = Adopter(work.dest, shelf, dict(todo), options.labels, progress)
            run_local(
                work,
                [shard for shard, _ in todo],
                adopter.rows,
                workers=options.workers,
                scratch=scratch,
                progress=progress,
                publish=adopter.publish,
            )
    finally:
        shelf.close()
    if options.task is not None:
        return task_result(journal, [shard for shard, _ in mine], len(todo))
    return end(journal, record, scratch, redone=len(todo))
