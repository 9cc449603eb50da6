"""What ``pal-shard adopt`` is told, and what follows from it for every tar."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from ..builder.shard_plan import PlannedShard
from ..catalog.database import keyed_hash
from ..encoding import ffmpeg_info
from ..encoding.transcode import ClipLimits
from ..errors import UsageError
from ..foreign_tars.finding import ForeignTar
from ..foreign_tars.label_member import LabelMember
from ..foreign_tars.video_member import VideoMember

_SPLIT = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptOptions:
    """Everything ``pal-shard adopt`` is told.

    Attributes:
        sources: folders, prefixes or names of tars.
        dest: folder URL of the shard set.
        videos: how videos are named in the tars.
        labels: which member tells a clip's class; None for no labels.
        split: the one split.
        split_by_folder: the folder above a tar names its split.
        val_fraction: share of the tars that goes to ``val``.
        seed: of the choice of ``val``.
        limits: what is still a clip.
        workers: tools at a time.
        tasks: number of tasks that share the work.
        task: this task's index, None where one run does all and finishes the set.
        append: add tars to the set that lies at DEST.
        overwrite: remove what shard set lies at DEST first.
        quiet: say nothing on the way.
        scratch: where the scratch folder is made, None for TMPDIR.
    """

    sources: Sequence[str]
    dest: str
    videos: VideoMember
    labels: LabelMember | None = None
    split: str | None = None
    split_by_folder: bool = False
    val_fraction: float | None = None
    seed: int = 0
    limits: ClipLimits = dataclasses.field(default_factory=ClipLimits)
    workers: int = 1
    tasks: int = 1
    task: int | None = None
    append: bool = False
    overwrite: bool = False
    quiet: bool = False
    scratch: str | None = None

    def __post_init__(self) -> None:
        if sum([self.split is not None, self.split_by_folder, self.val_fraction is not None]) > 1:
            raise UsageError("--split, --split-by-folder and --val-fraction exclude each other: give one")
        if self.split is not None and not _SPLIT.fullmatch(self.split):
            raise UsageError(f"--split {self.split!r}: use letters, digits and underscores")
        if self.val_fraction is not None and not 0.0 < self.val_fraction < 1.0:
            raise UsageError(f"--val-fraction {self.val_fraction}: give a share between 0 and 1, as 0.1")
        if self.append and self.overwrite:
            raise UsageError("--append adds to a set and --overwrite removes it: give one")
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers}: give at least 1")
        if self.task is not None and not 0 <= self.task < self.tasks:
            raise UsageError(
                f"--task-index {self.task}: give an index from 0 to {self.tasks - 1} (--num-tasks)"
            )


def deal(options: AdoptOptions, tars: Sequence[ForeignTar]) -> list[tuple[PlannedShard, ForeignTar]]:
    """Give every tar its split and its number in it, in the order of the tars' names."""
    counts: dict[str, int] = {}
    places = []
    held_out = _val_tars(options, tars)
    for tar in tars:
        split = "val" if tar.relative in held_out else options.split or "train"
        if options.split_by_folder:
            split = tar.relative.rpartition("/")[0].rpartition("/")[2]
            if not split:
                raise UsageError(
                    f"--split-by-folder: {tar.relative!r} lies in no folder below SOURCE that could name its split: "
                    "give the folder above it as SOURCE, or use --split"
                )
            if not _SPLIT.fullmatch(split):
                raise UsageError(
                    f"--split-by-folder: the folder of {tar.relative!r} is no split name: use letters, digits and "
                    "underscores, or --split"
                )
        number = counts.get(split, 0)
        counts[split] = number + 1
        places.append((PlannedShard(split, number, 0, tar.size), tar))
    return sorted(places, key=lambda place: (place[0].split, place[0].number))


def _val_tars(options: AdoptOptions, tars: Sequence[ForeignTar]) -> set[str]:
    """Choose whole tars in the order of their hashes: never all, and at least one of a new set's."""
    if options.val_fraction is None:
        return set()
    least = 0 if options.append else 1
    if least and len(tars) < 2:
        raise UsageError("--val-fraction holds out whole tars, and there is only one: leave it out")
    key = options.seed.to_bytes(16, "little", signed=True)
    names = sorted((tar.relative for tar in tars), key=lambda name: keyed_hash(key, name, b"val"))
    return set(names[: min(len(tars) - 1, max(least, round(options.val_fraction * len(tars))))])


def recipe_of(options: AdoptOptions, tars: Sequence[ForeignTar]) -> dict[str, Any]:
    """Return everything that decides the bytes of the set, but where the tars lie."""
    listed = "\n".join(json.dumps([tar.relative, tar.size]) for tar in tars)
    return {
        "profile": "adopted",
        "video_member": options.videos.pattern,
        "label_member": None if options.labels is None else str(options.labels),
        "with_labels": options.labels is not None,
        "split": options.split,
        "split_by_folder": options.split_by_folder,
        "val_fraction": options.val_fraction,
        "seed": options.seed,
        "max_seconds": options.limits.max_seconds,
        "min_frames": options.limits.min_frames,
        "encoder": ffmpeg_info.encoder_identity(),
        "inputs": {"count": len(tars), "sha256": hashlib.sha256(listed.encode()).hexdigest()},
    }
