"""Which videos a source holds, how they are dealt to ranks, and their bytes read by range.

A source is a folder or URL prefix of video files, one video file, or a shard set (docs/formats.md, "Shard set"),
told by its manifest. Nothing is copied to local disk.
"""

from __future__ import annotations

import dataclasses
import heapq
import io
import re
import tarfile
from collections.abc import Iterable, Sequence
from typing import IO

from pal_ds import storage
from pal_ds.formats.shardset import MANIFEST_NAME, SampleEntry, load_index, load_manifest
from pal_ds.formats.tar_samples import SampleMembers, sample_in
from pal_ds.formats.video_file import VIDEO_EXTENSIONS, is_video_name
from pal_ds.storage.range_file import RangeFile

#: A remote video is read in blocks of this many bytes.
BLOCK_BYTES = 4 << 20
#: Shard samples up to this size are read by one request.
_WHOLE_SAMPLE_BYTES = 32 << 20
_SAFE_ID = re.compile(r"[^/\\\x00-\x1f]{1,200}")


class VideoSourceError(ValueError):
    """A source without videos, or one whose videos can't be told apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoRef:
    """One video of a source.

    Attributes:
        id: names its feature files; the file's stem without a leading ``v_``, or the shard sample's key.
        source: path relative to the source, or ``shard.tar/key``.
        url: the video file, or the tar that holds it.
        bytes: size of the file, or of all tar members of the sample.
        offset: first byte of the sample in the tar; None for a plain file.
        entry: the sample's row in its shard's index; None for a plain file.
    """

    id: str
    source: str
    url: str
    bytes: int
    offset: int | None = None
    entry: SampleEntry | None = None


def list_videos(url: str, *, split: str | None = None) -> list[VideoRef]:
    """Return the videos of a source, sorted by id.

    Args:
        url: folder, URL prefix, video file or shard set.
        split: only this split of a shard set; None takes all.

    Raises:
        VideoSourceError: no videos, two with one id, or ``split`` where there is none.
        StorageError: the source can't be listed.
    """
    if MANIFEST_NAME in storage.list_names(url, retry=storage.AT_START):
        refs = _list_shard_set(url, split)
    elif split is not None:
        raise VideoSourceError(f"--split {split}: {storage.redact(url)} is no shard set; leave it out")
    elif is_video_name(url.rstrip("/").rsplit("/", 1)[-1]):
        name = url.rstrip("/").rsplit("/", 1)[-1]
        refs = [_file_ref(url, name, storage.size(url, retry=storage.AT_START))]
    else:
        refs = [
            _file_ref(info.url, info.relative, info.size)
            for info in _files(url)
            if is_video_name(info.relative) and not info.relative.rsplit("/", 1)[-1].startswith(".")
        ]
    if not refs:
        known = " ".join(f".{extension}" for extension in sorted(VIDEO_EXTENSIONS))
        raise VideoSourceError(f"{storage.redact(url)}: no videos (looked for {known}) and no shard set")
    return _checked(refs)


def deal_videos(videos: Sequence[VideoRef], rank: int, world_size: int) -> list[VideoRef]:
    """Return the videos of one rank: largest first, each to the rank with the fewest bytes so far.

    Every rank computes the same deal from the same list, so no messages are needed.
    """
    loads = [(0, number) for number in range(world_size)]
    mine = []
    for video in sorted(videos, key=lambda item: (-item.bytes, item.id)):
        load, number = heapq.heappop(loads)
        heapq.heappush(loads, (load + video.bytes, number))
        if number == rank:
            mine.append(video)
    return mine


def open_video(video: VideoRef) -> str | bytes | IO[bytes]:
    """Return what a decoder reads the video from: a local path, its bytes, or a file read by range.

    Raises:
        StorageError: it can't be read.
        ShardSetError: the range holds no whole sample.
    """
    if video.offset is None:
        if storage.is_local(video.url):
            # Absolute, so that no name is taken for a protocol.
            return str(storage.local_path(video.url).absolute())
        return io.BufferedReader(
            RangeFile(video.url, 0, video.bytes, block_bytes=BLOCK_BYTES), buffer_size=1 << 16
        )
    if video.bytes <= _WHOLE_SAMPLE_BYTES:
        return read_sample(video).video
    return _open_large_sample(video)


def read_sample(video: VideoRef) -> SampleMembers:
    """Read one sample of a shard set.

    Raises:
        StorageError: it can't be read.
        ShardSetError: the range holds no whole sample.
    """
    assert video.offset is not None and video.entry is not None
    return sample_in(storage.read_range(video.url, video.offset, video.offset + video.bytes), video.entry)


def _open_large_sample(video: VideoRef) -> IO[bytes]:
    assert video.offset is not None and video.entry is not None
    if video.entry.video is not None:
        place = video.entry.video
        file = RangeFile(video.url, place.offset, place.record.bytes, block_bytes=BLOCK_BYTES)
        return io.BufferedReader(file, buffer_size=1 << 16)
    sample = RangeFile(video.url, video.offset, video.bytes, block_bytes=BLOCK_BYTES)
    archive = tarfile.open(fileobj=sample, mode="r:")  # noqa: SIM115 (the member below lives on it)
    for member in archive:
        if member.isfile() and not member.name.endswith(".json"):
            content = archive.extractfile(member)
            assert content is not None
            return content
    raise VideoSourceError(f"{video.source}: no video in the sample")


def _list_shard_set(url: str, split: str | None) -> list[VideoRef]:
    manifest = load_manifest(url)
    if split is not None and split not in manifest.splits:
        raise VideoSourceError(
            f"--split {split}: {storage.redact(url)} has {', '.join(sorted(manifest.splits))}"
        )
    names = [split] if split is not None else sorted(manifest.splits)
    indexes = (load_index(url, shard.name) for name in names for shard in manifest.splits[name].shards)
    return [
        VideoRef(
            id=sample.key,
            source=f"{index.shard}/{sample.key}",
            url=index.tar(url),
            bytes=sample.size,
            offset=sample.offset,
            entry=sample,
        )
        for index in indexes
        for sample in index.samples
        if not sample.is_removed
    ]


def _files(url: str) -> Iterable[storage.FileInfo]:
    try:
        yield from storage.iter_files(url, retry=storage.AT_START)
    except storage.StorageNotFoundError:
        return


def _file_ref(url: str, relative: str, size: int) -> VideoRef:
    stem = relative.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return VideoRef(id=stem.removeprefix("v_") or stem, source=relative, url=url, bytes=size)


def _checked(refs: list[VideoRef]) -> list[VideoRef]:
    by_id: dict[str, VideoRef] = {}
    for ref in refs:
        if not _SAFE_ID.fullmatch(ref.id):
            raise VideoSourceError(f"{ref.source!r}: its name can't name a feature file; rename it")
        if ref.id in by_id:
            raise VideoSourceError(
                f"two videos have the id {ref.id!r}: {by_id[ref.id].source} and {ref.source}; "
                "rename one, or extract the folders into different places"
            )
        by_id[ref.id] = ref
    return [by_id[name] for name in sorted(by_id)]
