"""Shard sets for the steps: the real clips that were brought, or clips drawn here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.gpu import rendered
from benchmarks.gpu.context import Context
from pal_ds.formats import shardset

#: Enough that a batch of 512 is a batch, few enough to be drawn in minutes: an epoch is two steps of it.
_LETTER_CLIPS = 1152


def small_set(context: Context) -> dict[str, Any]:
    """Take the clips that were brought, or draw some."""
    target = context.folder / "small"
    if context.brought is not None and (context.brought / "clips" / shardset.MANIFEST_NAME).exists():
        if not target.exists():
            shutil.copytree(context.brought / "clips", target)
        return _told(target) | {"real": True}
    return _drawn(context, "small", context.pick(96, 16)) | {"real": False}


def rendered_set(context: Context) -> dict[str, Any]:
    """Draw clips for runs from a server."""
    return _drawn(context, "small" if context.tiny else "rendered", context.pick(320, 16))


def letter_set(context: Context) -> dict[str, Any]:
    """Draw clips for the letter's batch."""
    return _drawn(context, "small" if context.tiny else "letter", context.pick(_LETTER_CLIPS, 16))


def set_of(context: Context, name: str) -> Path:
    """Return a set that an earlier step has made.

    Raises:
        RuntimeError: it hasn't.
    """
    path = context.folder / ("small" if context.tiny else name)
    if not (path / shardset.MANIFEST_NAME).exists():
        raise RuntimeError(f"no clips at {path}: the step that makes them has failed or was left out")
    return path


def _drawn(context: Context, name: str, count: int) -> dict[str, Any]:
    target, clips = context.folder / name, context.folder / f"{name}-clips"
    if not (target / shardset.MANIFEST_NAME).exists():
        seconds, width, height = context.pick((10.3, 170, 128), (1.4, 48, 36))
        workers = context.pick(len(os.sched_getaffinity(0)), 1)
        rendered.make_clips(clips, count, seconds=seconds, width=width, height=height, workers=workers)
        rendered.pack(clips, target, context.pick(0.1, 0.3))
    return _told(target)


def _told(target: Path) -> dict[str, Any]:
    splits = shardset.load_manifest(str(target)).splits
    return {name: {"clips": split.clips, "megabytes": split.bytes / 1e6} for name, split in splits.items()}
