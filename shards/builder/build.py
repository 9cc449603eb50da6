"""``pal-shard build``: from SOURCE to a finished shard set, however often it is interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.ffmpeg import process
from pal_ds.formats import shardset
from pal_ds.storage.scratch import scratch_folder

from ..catalog.dedupe import mark_equal_content
from ..catalog.gather import Catalog, CatalogOptions
from ..encoding import ffmpeg_info
from ..encoding.profiles import Profile
from ..encoding.transcode import ClipLimits
from ..errors import UsageError
from ..progress import Progress
from .finish import BuildResult, finish, read_stages, reject_line, result_of
from .journal import Journal, PlanRecord, recipe_differences
from .local_executor import ShardWork, run_local
from .partial_results import planned_result, task_result
from .shard_plan import Plan, PlanOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Everything ``pal-shard build`` is told.

    Attributes:
        dest: folder URL of the shard set.
        catalog: what the inputs are.
        plan: how they are dealt to shards.
        profile: how they are encoded.
        limits: what is still a clip.
        workers: ffmpeg processes at a time.
        executor: ``local`` or ``ray``.
        tasks: number of tasks that share the work.
        task: this task's index, None where one run does all and finishes the set.
        dedupe_content: reject sources of equal bytes too.
        overwrite: remove what shard set lies at DEST first.
        dry_run: only plan.
        quiet: say nothing on the way.
        scratch: where the scratch folder is made, None for TMPDIR.
    """

    dest: str
    catalog: CatalogOptions
    plan: PlanOptions
    profile: Profile
    limits: ClipLimits
    workers: int
    executor: str = "local"
    tasks: int = 1
    task: int | None = None
    dedupe_content: bool = False
    overwrite: bool = False
    dry_run: bool = False
    quiet: bool = False
    scratch: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers}: give at least 1")
        if self.task is not None and not 0 <= self.task < self.tasks:
            raise UsageError(
                f"--task-index {self.task}: give an index from 0 to {self.tasks - 1} (--num-tasks)"
            )
        for source in self.catalog.sources:
            if storage.redact(source).rstrip("/") == storage.redact(self.dest).rstrip("/"):
                raise UsageError(f"SOURCE and DEST are the same folder: {storage.redact(source)}")


def build(options: BuildOptions) -> BuildResult:
    """Make a shard set, or finish one that was begun; a finished one is left as it is.

    Raises:
        UsageError: the options or DEST don't allow it.
        BuildError: the work can't go on.
        StorageError: a store refuses or fails.
    """
    with planned(options) as (plan, record, scratch):
        if options.dry_run:
            return planned_result(options.dest, plan)
        journal = Journal(options.dest)
        finished = _prepare(options, journal, record, plan, scratch)
        return finished or make(options, journal, record, plan, scratch)


@contextlib.contextmanager
def planned(options: BuildOptions) -> Iterator[tuple[Plan, PlanRecord, Path]]:
    """Gather the inputs and plan the shards; yields plan, record and scratch folder for as long as the work lasts."""
    process.allow_again()
    with scratch_folder(options.scratch) as scratch:
        say = Progress(0, quiet=options.quiet).note
        encoder = ffmpeg_info.encoder_identity()
        catalog = Catalog(scratch / "catalog.sqlite", options.catalog)
        try:
            catalog.gather()
            if options.dedupe_content:
                mark_equal_content(catalog.database, catalog.roots, scratch)
            _say_notes(catalog, say)
            plan = Plan(catalog, options.plan, options.profile)
            _warn_about_splits(plan, say)
            recipe = recipe_of(options, plan, encoder)
            yield plan, PlanRecord(recipe=recipe, inputs=plan.inputs, shards=tuple(plan.shards)), scratch
        finally:
            catalog.close()


def recipe_of(options: BuildOptions, plan: Plan, encoder: dict[str, str]) -> dict[str, Any]:
    """Return everything that decides the bytes of the set."""
    dealing = options.plan
    return {
        **options.profile.recipe(),
        "shard_bytes": dealing.shard_bytes,
        "seed": dealing.seed,
        "split": dealing.split,
        "split_column": dealing.split_column,
        "val_fraction": dealing.val_fraction,
        "limit": dealing.limit,
        "with_labels": options.catalog.with_labels,
        # Named only where chosen, so that sets built before the option existed keep their recipe.
        **({"keep_recordings": True} if options.catalog.keep_recordings else {}),
        **({"keep_labels": True} if options.catalog.keep_labels else {}),
        "dedupe": "content" if options.dedupe_content else "identity",
        "max_seconds": options.limits.max_seconds,
        "min_frames": options.limits.min_frames,
        "encoder": encoder,
        "inputs": {"count": plan.inputs, "sha256": plan.digest},
    }


def _prepare(
    options: BuildOptions, journal: Journal, record: PlanRecord, plan: Plan, scratch: Path
) -> BuildResult | None:
    """Compare DEST with what is wanted. Returns the result where nothing is left to do."""
    journal.check_bucket()
    if options.overwrite:
        if options.task is not None:
            raise UsageError(
                "--overwrite with --task-index would remove other tasks' work: run it without tasks"
            )
        journal.clear()
    names = journal.names()
    where = f"DEST {storage.redact(options.dest)}"
    foreign = journal.foreign()
    # Other tools leave files beside a finished set; only a new one is not begun among them.
    if foreign and shardset.MANIFEST_NAME not in names:
        raise UsageError(f"{where}: is no shard set (it holds {foreign[0]!r}): use an empty folder")
    if shardset.MANIFEST_NAME in names:
        manifest = shardset.load_manifest(options.dest)
        _refuse_difference(f"{where} is finished with another recipe", manifest.recipe, record.recipe)
        journal.remove()
        return result_of(options.dest, manifest, read_stages(options.dest))
    begun = journal.read_plan()
    if begun is not None:
        _refuse_difference(f"{where} was begun with another recipe", begun.recipe, record.recipe)
        return None
    if names:
        raise UsageError(
            f"{where}: holds {names[0]!r} of an unknown build: use another folder or --overwrite"
        )
    write_begin(journal, record, plan, scratch)
    return None


def write_begin(journal: Journal, record: PlanRecord, plan: Plan, scratch: Path) -> None:
    """Publish the plan: from here on DEST holds a build under way."""
    rejects = scratch / "catalog-rejects.jsonl"
    with rejects.open("wb") as file:
        file.writelines(reject_line(reject) for reject in plan.catalog.rejects())
    storage.make_folder(journal.dest)
    journal.write_plan(record, rejects)


def _refuse_difference(what: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    differences = recipe_differences(old, new)
    if not differences:
        return
    if all(difference.startswith("inputs.") for difference in differences):
        counts = f"{old['inputs']['count']} then, {new['inputs']['count']} now"
        raise UsageError(f"{what}: the inputs have changed ({counts}): use another DEST or --overwrite")
    raise UsageError(f"{what} ({'; '.join(differences[:4])}): use another DEST or --overwrite")


def make(
    options: BuildOptions, journal: Journal, record: PlanRecord, plan: Plan, scratch: Path
) -> BuildResult:
    """Make the shards that are not finished, then finish the set unless this is one of several tasks."""
    index = 0 if options.task is None else options.task
    mine = plan.shards[index :: options.tasks]
    done = journal.finished_shards()
    todo = [shard for shard in mine if shardset.shard_name(shard.split, shard.number) not in done]
    work = ShardWork(
        dest=_absolute(options.dest),
        roots=tuple(_absolute(root) for root in plan.catalog.roots),
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

            run_ray(work, todo, plan.rows, record.recipe["encoder"], progress=progress)
        else:
            run_local(work, todo, plan.rows, workers=options.workers, scratch=scratch, progress=progress)
    if options.task is not None:
        return task_result(journal, mine, len(todo))
    return finish(journal, record, scratch, redone=len(todo))


def _absolute(url: str) -> str:
    """Return a place that means the same in every process."""
    return str(storage.local_path(url).absolute()) if storage.is_local(url) else url


def _say_notes(catalog: Catalog, say: Any) -> None:
    notes = catalog.notes
    if notes.others:
        say(f"passed over {notes.others} files that are no videos by their ending")
    if notes.loops:
        say(f"passed over {notes.loops} links that lead back to a folder they lie in")


def _warn_about_splits(plan: Plan, say: Any) -> None:
    options = plan.options
    if options.split_column or options.val_fraction is not None:
        return
    values = plan.split_values()
    target = options.split or "train"
    if values and set(values) != {target}:
        listed = ", ".join(f"{name} {count}" for name, count in sorted(values.items()))
        say(f"warning: the inputs name splits ({listed}), all go to {target!r}: --split-column follows them")


def finish_tasks(dest: str) -> BuildResult:
    """Finish a set whose shards were made by several tasks.

    Raises:
        UsageError: no build was begun there.
        BuildError: shards are missing.
    """
    journal = Journal(dest)
    if shardset.MANIFEST_NAME in journal.names():
        manifest = shardset.load_manifest(dest)
        journal.remove()
        return result_of(dest, manifest, read_stages(dest))
    record = journal.read_plan()
    if record is None:
        raise UsageError(f"DEST {storage.redact(dest)}: no build was begun there")
    with scratch_folder() as scratch:
        return finish(journal, record, scratch)
