"""Samples out of the bytes of a shard: what a range read gives, member by member (docs/formats.md, "Shard set")."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from collections.abc import Iterator

from pal_ds.formats.shard_files import checked_key, is_safe_extension
from pal_ds.formats.shard_index import AdoptedVideo
from pal_ds.formats.shardset import SampleEntry, SampleRecord, ShardSetError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleMembers:
    """One sample as it lies in a tar: the encoded video, its file extension and its record."""

    key: str
    video: bytes
    video_extension: str
    record: SampleRecord


def sample_in(data: bytes, entry: SampleEntry) -> SampleMembers:
    """Return the sample whose bytes a range read gave.

    Args:
        data: bytes ``[entry.offset, entry.offset + entry.size)`` of its tar.
        entry: its row in the index.

    Raises:
        ShardSetError: the clip was taken down, or the bytes are not one whole sample.
    """
    if entry.is_removed:
        raise ShardSetError(f"sample {entry.key}: was removed from the set")
    if entry.video is not None:
        sample = adopted_sample(data, entry.offset, entry.key, entry.video)
        if hashlib.sha256(sample.video).hexdigest() != sample.record.sha256:
            raise ShardSetError(f"sample {entry.key}: its tar has changed since it was adopted")
        return sample
    samples = list(split_samples(data))
    if len(samples) != 1:
        raise ShardSetError(f"{len(samples)} samples where the index has one")
    return samples[0]


def adopted_sample(data: bytes, start: int, key: str, video: AdoptedVideo) -> SampleMembers:
    """Cut a clip out of a range of an adopted tar; nothing in the tar is believed but these bytes.

    Args:
        data: bytes of the tar.
        start: place of the first of them in the tar.
        key: the sample's key.
        video: where the clip lies, from the index.
    """
    first = video.offset - start
    return SampleMembers(
        key=key,
        video=bytes(data[first : first + video.record.bytes]),
        video_extension=video.extension,
        record=video.record,
    )


def other_members(data: bytes, entry: SampleEntry) -> dict[str, bytes]:
    """Return what lies beside the video in a sample of an adopted tar: captions, metadata, sound.

    Args:
        data: bytes ``[entry.offset, entry.offset + entry.size)`` of the tar.
        entry: the sample's row in the index.

    Returns:
        Content by member name; names are data, never paths.

    Raises:
        ShardSetError: the bytes are no tar members.
    """
    video = entry.video.member if entry.video is not None else None
    return {name: content for name, content in _regular_members(data) if name != video}


def split_samples(tar_bytes: bytes) -> Iterator[SampleMembers]:
    """Yield the samples of any byte range of a shard that holds whole samples.

    Tar members are data, never paths: a key that is not a plain name is refused.

    Raises:
        ShardSetError: the bytes are no tar, or a sample lacks its video or record.
    """
    from webdataset.tariterators import group_by_keys

    # The grouping stage wants to know where a member came from; a byte range has no address of its own.
    members = [
        {"fname": name, "data": data, "__url__": "range"} for name, data in _regular_members(tar_bytes)
    ]
    try:
        samples = list(group_by_keys(members))
    except ValueError as error:
        raise ShardSetError(f"not a range of whole samples: {error}") from error
    for sample in samples:
        key = checked_key(str(sample.pop("__key__")))
        record = sample.pop("json", None)
        videos = {name: data for name, data in sample.items() if not name.startswith("__")}
        if record is None or len(videos) != 1:
            raise ShardSetError(f"sample {key}: expected one video and one json, found {sorted(videos)}")
        extension, video = next(iter(videos.items()))
        if not is_safe_extension(extension):
            raise ShardSetError(f"sample {key}: its video's ending {extension[:80]!r} is none of a file")
        yield SampleMembers(
            key=key, video=video, video_extension=extension, record=SampleRecord.from_json(record)
        )


def _regular_members(tar_bytes: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file in a tar that is in memory, copied once.

    webdataset's iterator takes the bytes for a stream and copies them in blocks of 10 KiB: 0.7 s of CPU more
    a gigabyte.
    """
    view = memoryview(tar_bytes)
    try:
        with tarfile.open(fileobj=io.BytesIO(tar_bytes), mode="r:") as tar:
            for member in tar:
                end = member.offset_data + member.size
                if end > len(view):
                    raise tarfile.ReadError(f"{member.name} is cut short")
                if member.isreg() and not member.issparse():
                    yield member.name, bytes(view[member.offset_data : end])
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        raise ShardSetError(f"not a range of whole tar members: {error}") from error
