"""``pal-shard build``: from SOURCE to a finished shard set, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.storage.scratch import scratch_folder

from ..catalog.rows import Reject, Row
from ..errors import UsageError
from ..progress import Progress
from .build_options import BuildOptions
from .comparing import begun_plan, compared_early, refuse_difference, remove_leftovers
from .finish import BuildResult, finish, read_stages, reject_line, result_of
from .journal import FOLDER, Journal
from .local_executor import ShardWork, run_local
from .partial_results import planned_result, task_result
from .planning import gathered, plan_of
from .shard_plan import Plan, PlannedShard
from .unfinished import PlanRecord

RowsOf: TypeAlias = Callable[[PlannedShard], list[Row]]


class Finish(Protocol):
    """Puts finished shards together."""

    def __call__(self, journal: Journal, plan: PlanRecord, scratch: Path, *, redone: int = 0) -> BuildResult:
        """Publish what was made and return what it came to."""


def build(options: BuildOptions) -> BuildResult:
    """Make a shard set, or finish one that was begun; a finished one is left as it is.

    Raises:
        UsageError: the options or DEST don't allow it.
        BuildError: the work can't go on.
        StorageError: a store refuses or fails.
    """
    journal = Journal(options.dest)
    with gathered(options) as (catalog, recipe, scratch):
        _keep_apart(options.dest, [*catalog.roots, *sorted(catalog.tar_folders)])
        if options.measures and not options.dry_run:
            open_place(journal, overwrite=options.overwrite, is_task=options.task is not None)
            if (finished := compared_early(journal, recipe)) is not None:
                return finished
        plan, record = plan_of(options, catalog, recipe, scratch)
        if options.dry_run:
            return planned_result(options.dest, plan)
        result = _prepare(options, journal, record, plan, scratch)
        return result or make(options, journal, record, plan, scratch)


def _keep_apart(dest: str, places: Iterable[str]) -> None:
    """Refuse a DEST from which is read, which --overwrite would delete."""
    here = storage.resolved(dest)
    for place in places:
        if storage.resolved(place) == here:
            raise UsageError(
                f"DEST {storage.redact(dest)}: sources lie there ({storage.redact(place)}): use another folder"
            )


def _prepare(
    options: BuildOptions, journal: Journal, record: PlanRecord, plan: Plan, scratch: Path
) -> BuildResult | None:
    """Compare DEST with what is wanted. Returns the result where nothing is left to do."""
    if not options.measures:
        open_place(journal, overwrite=options.overwrite, is_task=options.task is not None)
    return prepare(
        journal, record, begin=lambda: write_begin(journal, record, plan.catalog.rejects(), scratch)
    )


def prepare(journal: Journal, record: PlanRecord, *, begin: Callable[[], None]) -> BuildResult | None:
    """Compare DEST with what is wanted. Returns the result where nothing is left to do.

    Args:
        journal: of DEST, which :func:`open_place` found fit.
        record: what is wanted.
        begin: publishes the plan where nothing was begun there.

    Raises:
        UsageError: something else lies there.
    """
    names = journal.names()
    where = f"DEST {storage.redact(journal.dest)}"
    if shardset.MANIFEST_NAME in names:
        manifest = shardset.load_manifest(journal.dest)
        refuse_difference(f"{where} is finished with another recipe", manifest.recipe, record.recipe)
        remove_leftovers(journal, manifest)
        return result_of(journal.dest, manifest, read_stages(journal.dest, manifest))
    begun = begun_plan(journal)
    if begun is not None:
        refuse_difference(f"{where} was begun with another recipe", begun.recipe, record.recipe)
        return None
    # A run that was killed before its plan was whole leaves only what it had measured.
    if set(names) - {FOLDER}:
        raise UsageError(
            f"{where}: holds {names[0]!r} of an unknown build: use another folder or --overwrite"
        )
    begin()
    return None


def open_place(journal: Journal, *, overwrite: bool, is_task: bool) -> None:
    """Check that a set may be made at DEST, and remove the one that is to be overwritten.

    Args:
        journal: of DEST.
        overwrite: remove what lies there first.
        is_task: this run is one of several.

    Raises:
        UsageError: something else lies there, or one of several tasks would overwrite.
    """
    journal.check_bucket()
    if overwrite:
        if is_task:
            raise UsageError(
                "--overwrite with --task-index would remove other tasks' work: run it without tasks"
            )
        journal.clear()
    foreign = journal.foreign()
    # Other tools leave files beside a finished set; only a new one is not begun among them.
    if foreign and shardset.MANIFEST_NAME not in journal.names():
        raise UsageError(
            f"DEST {storage.redact(journal.dest)}: is no shard set (it holds {foreign[0]!r}): use an empty folder"
        )


def write_begin(journal: Journal, record: PlanRecord, rejects: Iterable[Reject], scratch: Path) -> None:
    """Publish the plan: from here on DEST holds a build under way."""
    path = scratch / "catalog-rejects.jsonl"
    with path.open("wb") as file:
        file.writelines(reject_line(reject) for reject in rejects)
    storage.make_folder(journal.dest)
    journal.write_plan(record, path)


def make(
    options: BuildOptions,
    journal: Journal,
    record: PlanRecord,
    plan: Plan,
    scratch: Path,
    *,
    rows_of: RowsOf | None = None,
    end: Finish = finish,
) -> BuildResult:
    """Make the shards that are not finished, then finish the set unless this is one of several tasks.

    Args:
        options: what to make.
        journal: of DEST.
        record: the shards, as they were published.
        plan: the clips.
        scratch: for clips under way.
        rows_of: the clips of a shard of ``record``; None where the plan's shards are the same.
        end: puts the finished shards together.
    """
    rows_of = rows_of or plan.rows
    index = 0 if options.task is None else options.task
    mine = record.shards[index :: options.tasks]
    done = journal.finished_shards()
    todo = [shard for shard in mine if shardset.shard_name(shard.split, shard.number) not in done]
    work = ShardWork(
        dest=storage.absolute(options.dest),
        roots=tuple(storage.absolute(root) for root in plan.catalog.roots),
        profile=options.profile,
        limits=options.limits,
        with_labels=options.catalog.with_labels,
    )
    journal.try_to_abort_uploads({shardset.shard_name(shard.split, shard.number) for shard in todo})
    with Progress(sum(shard.clips for shard in todo), quiet=options.quiet) as progress:
        if len(todo) < len(mine):
            progress.note(f"{len(mine) - len(todo)} of {len(mine)} shards were finished before: going on")
        if options.executor == "ray":
            from .ray_executor import run_ray

            run_ray(work, todo, rows_of, record.recipe["encoder"], progress=progress)
        else:
            run_local(work, todo, rows_of, workers=options.workers, scratch=scratch, progress=progress)
    if options.task is not None:
        return task_result(journal, mine, len(todo))
    return end(journal, record, scratch, redone=len(todo))


def finish_tasks(dest: str) -> BuildResult:
    """Finish a set whose shards were made by several tasks.

    Raises:
        UsageError: no build was begun there.
        BuildError: shards are missing.
    """
    journal = Journal(dest)
    if shardset.MANIFEST_NAME in journal.names():
        manifest = shardset.load_manifest(dest)
        remove_leftovers(journal, manifest)
        return result_of(dest, manifest, read_stages(dest, manifest))
    record = journal.read_plan()
    if record is None:
        raise UsageError(f"DEST {storage.redact(dest)}: no build was begun there")
    with scratch_folder() as scratch:
        return finish(journal, record, scratch)
