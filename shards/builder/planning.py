"""From SOURCE to the planned shards: gathered, looked into where that is asked for, dealt."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from pal_ds.ffmpeg import process
from pal_ds.storage.scratch import scratch_folder

from ..catalog.dedupe import mark_equal_content
from ..catalog.gather import Catalog
from ..encoding import ffmpeg_info
from ..measuring.cut_videos import Settled, check_something_to_cut
from ..progress import Progress
from .build_options import BuildOptions, recipe_of
from .journal import Journal
from .measured import measure
from .shard_plan import Plan
from .unfinished import PlanRecord

Say: TypeAlias = Callable[[str], None]


@contextlib.contextmanager
def planned(
    options: BuildOptions, screen: Callable[[Catalog, Say], None] | None = None
) -> Iterator[tuple[Plan, PlanRecord, Path]]:
    """Gather the inputs and plan the shards; yields plan, record and scratch folder for as long as the work lasts.

    Args:
        options: what to make.
        screen: takes inputs out of the catalog before shards are planned; called again where videos were cut.
    """
    with gathered(options, screen) as (catalog, recipe, scratch):
        yield *plan_of(options, catalog, recipe, scratch, screen), scratch


@contextlib.contextmanager
def gathered(
    options: BuildOptions, screen: Callable[[Catalog, Say], None] | None = None
) -> Iterator[tuple[Catalog, dict[str, Any], Path]]:
    """Gather the inputs; yields catalog, recipe without ``inputs`` and scratch folder while the work lasts."""
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
            check_something_to_cut(catalog, options.cut)
            if screen is not None:
                screen(catalog, say)
            yield catalog, recipe_of(options, catalog, encoder), scratch
        finally:
            catalog.close()


def plan_of(
    options: BuildOptions,
    catalog: Catalog,
    recipe: dict[str, Any],
    scratch: Path,
    screen: Callable[[Catalog, Say], None] | None = None,
    settled: Settled | None = None,
) -> tuple[Plan, PlanRecord]:
    """Look into videos where the options ask for it, then deal the clips to shards.

    Args:
        options: what to make.
        catalog: the inputs.
        recipe: without ``inputs``.
        scratch: folder for remote videos.
        screen: see :func:`planned`.
        settled: stage and error of videos that are rejects in any case; None for those of the plan at DEST.
    """
    say = Progress(0, quiet=options.quiet).note
    if options.measures:
        if settled is None:
            settled = {} if options.dry_run else Journal(options.dest).settled()
        measure(
            catalog,
            options.cut,
            near=options.dedupe_near,
            folder=None if options.dry_run else Journal(options.dest).folder,
            scratch=scratch,
            limits=options.limits,
            workers=options.workers,
            share=(0 if options.task is None else options.task, options.tasks),
            quiet=options.quiet,
            screen=None if screen is None else functools.partial(screen, catalog, say),
            settled=settled,
        )
    plan = Plan(catalog, options.plan, options.profile)
    _warn_about_splits(plan, say)
    recipe = {**recipe, "inputs": {"count": plan.inputs, "sha256": plan.digest}}
    return plan, PlanRecord(recipe=recipe, inputs=plan.inputs, shards=tuple(plan.shards))


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
