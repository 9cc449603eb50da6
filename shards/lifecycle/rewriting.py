"""Makes a shard without some of its clips: a new index for the same tar, or a tar of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_index import SampleEntry, ShardIndex
from pal_ds.formats.shardset import ShardEntry

from .generations import seconds_of
from .intent import ShardChange


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewritten:
    """What became of a shard.

    Attributes:
        entry: the shard in its place; None where no clip is left.
        frames: decodable frames of the clips left out.
        seconds: of video in them.
    """

    entry: ShardEntry | None
    frames: int
    seconds: float


def rewrite(
    dest: str, old: ShardEntry, change: ShardChange, scratch: Path, check: Callable[[], None]
) -> Rewritten:
    """Write the shard that takes another's place; nobody knows of it until a generation lists it.

    Args:
        dest: the set.
        old: the shard.
        change: what of it stays.
        scratch: folder for a tar under way.
        check: called before anything is written to DEST; raises where it may not be any more.

    Raises:
        ShardSetError: the old index can't be understood.
        StorageError: DEST can't be read or written.
    """
    index = shardset.load_index(dest, old.name)
    gone = set(change.keys)
    left_out = [sample for sample in index.samples if sample.key in gone]
    kept = [sample for sample in index.samples if sample.key not in gone and not sample.is_removed]
    entry = None
    if kept and change.new is not None:
        copied = None if old.copied is None else old.copied - _copied(index.tar(dest), left_out)
        make = _with_tar if change.is_rewritten else _index_alone
        entry = dataclasses.replace(
            make(dest, old, index, kept, change.new, scratch, check),
            clips=len(kept),
            copied=copied,
            replaces=old.name,
        )
    return Rewritten(
        entry=entry,
        frames=sum(sample.frames for sample in left_out),
        seconds=sum(seconds_of(sample) for sample in left_out),
    )


def _index_alone(
    dest: str,
    old: ShardEntry,
    index: ShardIndex,
    kept: list[SampleEntry],
    name: str,
    scratch: Path,
    check: Callable[[], None],
) -> ShardEntry:
    url = old.url or old.name
    new = ShardIndex(shard=name, samples=tuple(kept), url=url, tar_bytes=index.tar_bytes)
    check()
    storage.write_bytes(storage.join(dest, shardset.index_name(name)), new.to_json())
    return dataclasses.replace(old, name=name, url=url)


def _with_tar(
    dest: str,
    old: ShardEntry,
    index: ShardIndex,
    kept: list[SampleEntry],
    name: str,
    scratch: Path,
    check: Callable[[], None],
) -> ShardEntry:
    """Copy the samples that stay, byte by byte, into a tar as ``pal-shard build`` would have packed them."""
    samples: list[SampleEntry] = []
    hasher = hashlib.sha256()
    path = scratch / name
    with path.open("wb") as file:
        for sample in kept:
            data = storage.read_range(index.tar(dest), sample.offset, sample.offset + sample.size)
            samples.append(dataclasses.replace(sample, offset=file.tell()))
            file.write(data)
            hasher.update(data)
        # An archive ends with two empty blocks and is filled up to whole records, as tarfile does it.
        end = file.tell() + 2 * tarfile.BLOCKSIZE
        padding = bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE)
        file.write(padding)
        hasher.update(padding)
        size = file.tell()
    check()
    storage.upload_file(path, storage.join(dest, name))
    path.unlink()
    new = ShardIndex(shard=name, samples=tuple(samples))
    check()
    storage.write_bytes(storage.join(dest, shardset.index_name(name)), new.to_json())
    return dataclasses.replace(old, name=name, url=None, bytes=size, sha256=hasher.hexdigest())


def _copied(tar: str, samples: list[SampleEntry]) -> int:
    """Count the samples whose records say that they were packed as they were."""
    count = 0
    for sample in samples:
        data = storage.read_range(tar, sample.offset, sample.offset + sample.size)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".json") else None
                if file is not None:
                    count += bool(json.loads(file.read()).get("copied"))
    return count
