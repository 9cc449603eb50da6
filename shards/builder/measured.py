"""The part of a build that looks into videos before it plans: cuts and near duplicates, kept at DEST meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pal_ds.formats import shardset

from ..catalog.gather import Catalog
from ..measuring.cut_videos import cut_videos, cutting_recipe
from ..measuring.cuts import CutOptions
from ..measuring.measurements import Measurements
from ..measuring.near_duplicates import mark_near_duplicates, near_recipe
from .finish import BuildResult, read_stages, result_of
from .journal import Journal


def measured_recipe(catalog: Catalog, cut: CutOptions, *, near: bool) -> dict[str, Any]:
    """Return what decides cuts and near duplicates; empty where neither is wanted.

    Raises:
        UsageError: there is nothing to cut, or a library is missing.
    """
    recipe: dict[str, Any] = {}
    if cut.wanted:
        recipe["cutting"] = cutting_recipe(catalog, cut)
    if near:
        recipe["near"] = near_recipe()
    return recipe


def finished_before(journal: Journal, recipe: dict[str, Any]) -> BuildResult | None:
    """Return the result of the finished set at DEST where it has this recipe, but for what measuring would tell.

    Args:
        journal: of DEST.
        recipe: of the build, without ``inputs``.
    """
    if "cutting" not in recipe or shardset.MANIFEST_NAME not in journal.names():
        return None
    manifest = shardset.load_manifest(journal.dest)
    if {name: value for name, value in manifest.recipe.items() if name != "inputs"} != recipe:
        return None
    journal.remove()
    return result_of(journal.dest, manifest, read_stages(journal.dest))


def measure(
    catalog: Catalog,
    cut: CutOptions,
    *,
    near: bool,
    folder: str | None,
    scratch: Path,
    timeout: float,
    workers: int,
    share: tuple[int, int],
    quiet: bool,
) -> None:
    """Cut videos and mark near duplicates, as far as the options ask for it.

    Args:
        catalog: the inputs.
        cut: how videos are cut.
        near: whether near duplicates are marked.
        folder: where what is found is kept for the next run; None nowhere.
        scratch: folder for remote videos and for the tables.
        timeout: seconds that a tool may take for a video.
        workers: videos at a time.
        share: this task's number and the number of tasks.
        quiet: no progress on stderr.

    Raises:
        StorageError: a store fails beyond its budget.
    """
    store = Measurements(scratch / "measured.sqlite", folder)
    common: dict[str, Any] = {"timeout": timeout, "workers": workers, "share": share, "quiet": quiet}
    try:
        if cut.wanted:
            cut_videos(catalog, cut, store, scratch, **common)
        if near:
            mark_near_duplicates(catalog, store, scratch, **common)
    finally:
        store.save()
        store.close()
