"""``pal-shard adopt``: a shard set that points at tars as they are, each of whose clips was decoded once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.ffmpeg import process
from pal_ds.formats import shardset
from pal_ds.formats.shard_index import AdoptedVideo, SampleEntry, ShardIndex
from pal_ds.formats.shardset import ShardEntry
from pal_ds.storage.scratch import scratch_folder

from ..builder.build import open_place, prepare, write_begin
from ..builder.finish import BuildResult, finish
from ..builder.journal import Journal, PlanRecord
from ..builder.local_executor import ShardWork, part_of, run_local
from ..builder.partial_results import task_result
from ..builder.shard_plan import PlannedShard
from ..catalog.database import keyed_hash
from ..catalog.rows import Reject, Row
from ..encoding import ffmpeg_info
from ..encoding.profiles import PROFILES
from ..encoding.transcode import Clip, ClipLimits
from ..errors import UsageError
from ..foreign_tars.finding import ForeignTar, LocalTar, TarShelf, find_tars
from ..foreign_tars.label_member import LabelMember
from ..foreign_tars.tar_listing import TarSample
from ..foreign_tars.video_member import VideoMember
from ..progress import Progress

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
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers}: give at least 1")
        if self.task is not None and not 0 <= self.task < self.tasks:
            raise UsageError(
                f"--task-index {self.task}: give an index from 0 to {self.tasks - 1} (--num-tasks)"
            )


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
        places = _deal(options, tars)
        record = PlanRecord(
            recipe=_recipe(options, tars), inputs=None, shards=tuple(place for place, _ in places)
        )
        journal = Journal(options.dest)
        open_place(journal, overwrite=options.overwrite, is_task=options.task is not None)
        finished = prepare(journal, record, begin=lambda: write_begin(journal, record, (), scratch))
        return finished or _make(options, journal, record, places, scratch)


def _deal(options: AdoptOptions, tars: Sequence[ForeignTar]) -> list[tuple[PlannedShard, ForeignTar]]:
    """Give every tar its split and its number in it, in the order of the tars' names."""
    counts: dict[str, int] = {}
    places = []
    held_out = _val_tars(options, tars)
    for tar in tars:
        split = "val" if tar.relative in held_out else options.split or "train"
        if options.split_by_folder:
            split = tar.relative.rpartition("/")[0].rpartition("/")[2]
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
    """Choose whole tars in the order of their hashes, at least one and never all."""
    if options.val_fraction is None:
        return set()
    if len(tars) < 2:
        raise UsageError("--val-fraction holds out whole tars, and there is only one: leave it out")
    key = options.seed.to_bytes(16, "little", signed=True)
    names = sorted((tar.relative for tar in tars), key=lambda name: keyed_hash(key, name, b"val"))
    return set(names[: min(len(tars) - 1, max(1, round(options.val_fraction * len(tars))))])


def _recipe(options: AdoptOptions, tars: Sequence[ForeignTar]) -> dict[str, Any]:
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


def _make(
    options: AdoptOptions,
    journal: Journal,
    record: PlanRecord,
    places: Sequence[tuple[PlannedShard, ForeignTar]],
    scratch: Path,
) -> BuildResult:
    mine = places[0 if options.task is None else options.task :: options.tasks]
    done = journal.finished_shards()
    todo = [(shard, tar) for shard, tar in mine if _name(shard) not in done]
    work = ShardWork(
        dest=str(storage.local_path(options.dest).absolute())
        if storage.is_local(options.dest)
        else options.dest,
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
            adopter = _Adopter(work.dest, shelf, dict(todo), options.labels, progress)
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
    return finish(journal, record, scratch, redone=len(todo))


class _Adopter:
    """Turns tars into rows of clips, and their finished clips into an index each."""

    def __init__(
        self,
        dest: str,
        shelf: TarShelf,
        tars: dict[PlannedShard, ForeignTar],
        labels: LabelMember | None,
        progress: Progress,
    ) -> None:
        self._dest = dest
        self._shelf = shelf
        self._tars = tars
        self._labels = labels
        self._progress = progress
        self._lock = threading.Lock()
        self._open: dict[PlannedShard, tuple[LocalTar | None, dict[str, TarSample], list[Reject]]] = {}
        self._published = 0

    def rows(self, shard: PlannedShard) -> list[Row]:
        """Bring a tar to hand and return its clips."""
        tar = self._tars[shard]
        local: LocalTar | None = None
        samples: dict[str, TarSample] = {}
        rejects: list[Reject] = []
        rows: list[Row] = []
        try:
            local = self._shelf.take(tar)
        except storage.StorageNotFoundError:
            rejects.append(Reject(tar.relative, "missing", "gone since the tars were listed"))
        except storage.StorageAccessError:
            rejects.append(Reject(tar.relative, "read", "the store refuses to give it"))
        if local is not None:
            if local.listing.problem:
                rejects.append(Reject(tar.relative, "read", f"the tar {local.listing.problem}"))
            elif not local.listing.samples:
                rejects.append(Reject(tar.relative, "read", "the tar holds no sample"))
            for sample in local.listing.samples:
                found = self._row(tar, local, sample)
                if isinstance(found, Row) and found.key in samples:
                    found = Reject(found.source, "duplicate", "the same name as another clip of its tar")
                if isinstance(found, Reject):
                    rejects.append(found)
                    continue
                samples[found.key] = sample
                rows.append(found)
        for reject in rejects:
            self._progress.reject(reject.stage)
        with self._lock:
            self._open[shard] = (local, samples, rejects)
        return rows

    def _row(self, tar: ForeignTar, local: LocalTar, sample: TarSample) -> Row | Reject:
        if not sample.videos:
            listed = ", ".join(member.name.rpartition("/")[2] for member in sample.others[:4])
            return Reject(
                f"{tar.relative}/{sample.key}", "missing", f"no video in the sample (it has {listed})"
            )
        if len(sample.videos) > 1:
            listed = ", ".join(member.name.rpartition("/")[2] for member in sample.videos[:4])
            error = f"several videos in the sample ({listed}): name one with --video-member"
            return Reject(f"{tar.relative}/{sample.key}", "catalog", error)
        (video,) = sample.videos
        source = f"{tar.relative}/{video.name}"
        label = None
        if self._labels is not None:
            with local.path.open("rb") as file:
                label = self._labels.read(file, sample)
            if label is None:
                return Reject(source, "label", f"no label in its sample ({self._labels})")
        return Row(
            source=source,
            root=0,
            location=str(local.path).lstrip("/"),
            size=video.size,
            label=label,
            group=source,
            offset=video.offset,
            member=video.name,
        )

    def publish(self, shard: PlannedShard, results: Sequence[Clip | Reject], folder: Path) -> None:
        """Write the index of a tar, then its part, which makes it finished."""
        with self._lock:
            local, samples, rejects = self._open.pop(shard)
        name, tar = _name(shard), self._tars[shard]
        clips = [result for result in results if isinstance(result, Clip)]
        entry = None
        if clips:
            assert local is not None
            index = ShardIndex(
                shard=name,
                samples=tuple(_entry(clip, samples[clip.record.key]) for clip in clips),
                url=tar.url,
                tar_bytes=local.size,
            )
            entry = ShardEntry(
                name=name, clips=len(clips), bytes=local.size, sha256=local.sha256, url=tar.url
            )
            storage.write_bytes(storage.join(self._dest, shardset.index_name(name)), index.to_json())
        Journal(self._dest).write_part(part_of(name, entry, [*results, *rejects]))
        shutil.rmtree(folder, ignore_errors=True)
        if local is not None and local.is_copy:
            local.path.unlink(missing_ok=True)
        self._published += 1
        self._progress.context = f"{self._published} of {len(self._tars)} tars"


def _entry(clip: Clip, sample: TarSample) -> SampleEntry:
    (video,) = sample.videos
    return SampleEntry(
        key=clip.record.key,
        offset=sample.start,
        size=sample.end - sample.start,
        frames=clip.record.frames,
        fps=clip.record.fps,
        video=AdoptedVideo(member=video.name, offset=video.offset, record=clip.record),
    )


def _name(shard: PlannedShard) -> str:
    return shardset.shard_name(shard.split, shard.number)
