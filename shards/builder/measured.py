"""The part of a build that looks into videos before it plans: cuts and near duplicates, kept at DEST meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..catalog.gather import Catalog
from ..encoding.transcode import ClipLimits
from ..measuring.cut_videos import Settled, cut_videos, cutting_recipe, digest_of
from ..measuring.cuts import CutOptions
from ..measuring.measurements import Measurements
from ..measuring.near_duplicates import mark_near_duplicates, near_recipe


def measured_recipe(catalog: Catalog, cut: CutOptions, *, near: bool) -> dict[str, Any]:
    """Return what decides cuts and near duplicates; empty where neither is wanted.

    Raises:
        UsageError: a library is missing.
    """
    recipe: dict[str, Any] = {}
    if cut.wanted:
        recipe["cutting"] = cutting_recipe(cut)
    if near:
        recipe["near"] = near_recipe()
    # What was there before it was looked into: known without looking, so that a finished set is known again.
    return {**recipe, "videos": {"count": catalog.count(), "sha256": digest_of(catalog)}} if recipe else {}


def measure(
    catalog: Catalog,
    cut: CutOptions,
    *,
    near: bool,
    folder: str | None,
    scratch: Path,
    limits: ClipLimits,
    workers: int,
    share: tuple[int, int],
    quiet: bool,
    screen: Callable[[], None] | None = None,
    settled: Settled = MappingProxyType({}),
) -> None:
    """Cut videos and mark near duplicates, as far as the options ask for it.

    Args:
        catalog: the inputs.
        cut: how videos are cut.
        near: whether near duplicates are marked.
        folder: where what is found is kept for the next run; None nowhere.
        scratch: folder for remote videos and for the tables.
        limits: what is still a clip, and how long a tool may take for a video.
        workers: videos at a time.
        share: this task's number and the number of tasks.
        quiet: no progress on stderr.
        screen: called when videos are cut: takes pieces out that are no inputs, before any is compared with another.
        settled: stage and error of the sources that are rejects in any case, as a plan that was published has them.

    Raises:
        StorageError: a store fails beyond its budget.
    """
    store = Measurements(scratch / "measured.sqlite", folder)
    common: dict[str, Any] = {"timeout": limits.timeout, "workers": workers, "share": share, "quiet": quiet}
    try:
        if cut.wanted:
            cut_videos(catalog, cut, store, scratch, settled=settled, **common)
            if screen is not None:
                screen()
        if near:
            mark_near_duplicates(catalog, store, scratch, filters=limits.filters, **common)
    finally:
        store.save()
        store.close()
