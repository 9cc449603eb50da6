"""From a tar at hand to the rows of its clips, and from its decoded clips to its index."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_index import AdoptedVideo, SampleEntry, ShardIndex
from pal_ds.formats.shardset import ShardEntry

from ..builder.journal import Journal
from ..builder.local_executor import part_of
from ..builder.shard_plan import PlannedShard
from ..catalog.rows import Reject, Row
from ..encoding.transcode import Clip
from ..foreign_tars.finding import ForeignTar, LocalTar, TarShelf
from ..foreign_tars.label_member import LabelMember
from ..foreign_tars.tar_listing import TarSample
from ..progress import Progress


class Adopter:
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
        name, tar = name_of(shard), self._tars[shard]
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


def name_of(shard: PlannedShard) -> str:
    """Return a shard's name."""
    return shardset.shard_name(shard.split, shard.number)
