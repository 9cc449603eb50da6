"""The generations of a set: what each held, and how the next one becomes the newest.

``manifest.json`` is the newest. Publishing the next writes the present manifest under its number and then puts the
new one in its place: that single write is the moment from which readers see it, on disks and in object stores alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_files import SHARD_NAME, history_name
from pal_ds.formats.shard_index import SampleEntry, ShardIndex
from pal_ds.formats.shardset import Manifest, ShardEntry, ShardSetError, SplitEntry

#: Indexes read at a time: mostly waiting.
_READERS = 16


class OvertakenError(ShardSetError):
    """Another generation came first."""


def following(manifest: Manifest, splits: dict[str, SplitEntry]) -> Manifest:
    """Return the generation after ``manifest``, with other shards."""
    return dataclasses.replace(
        manifest, splits=splits, generation=manifest.generation + 1, previous=manifest.digest
    )


def commit(dest: str, manifest: Manifest) -> None:
    """Make a generation the newest.

    Raises:
        OvertakenError: the newest is not the one it follows.
        StorageError: DEST can't be written.
    """
    newest = shardset.load_manifest(dest)
    if newest.digest != manifest.previous:
        raise OvertakenError(
            f"{storage.redact(dest)}: somebody else changed the set meanwhile: run the same command again"
        )
    storage.write_bytes(storage.join(dest, history_name(newest.generation)), newest.to_json())
    storage.write_bytes(storage.join(dest, shardset.MANIFEST_NAME), manifest.to_json())


def all_generations(dest: str, newest: Manifest) -> list[Manifest]:
    """Return all generations of a set, the newest first.

    Raises:
        ShardSetError: one is missing or was changed.
    """
    found = [newest]
    while found[-1].generation > 1:
        assert found[-1].previous is not None
        found.append(shardset.load_manifest(dest, digest=found[-1].previous))
    return found


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Which shard's clips went into which, over all generations of a set.

    Attributes:
        newest: entries of the newest generation by name.
        older: entries of older generations that the newest has no more, by name.
    """

    newest: dict[str, ShardEntry]
    older: dict[str, ShardEntry]

    @classmethod
    def of(cls, dest: str, manifest: Manifest) -> Lineage:
        """Read the lineage of the set at ``dest``, whose newest generation is ``manifest``."""
        newest = {entry.name: entry for entry in manifest.shards()}
        older = {
            entry.name: entry
            for each in all_generations(dest, manifest)[1:]
            for entry in each.shards()
            if entry.name not in newest
        }
        return cls(newest, older)

    def ancestors(self, name: str) -> list[str]:
        """Return a shard of an older or the newest generation, and those whose clips it took over."""
        found = []
        following: str | None = name
        while following is not None:
            found.append(following)
            entry = self.newest.get(following) or self.older.get(following)
            following = None if entry is None else entry.replaces
        return found

    def successor(self, name: str) -> str | None:
        """Return the newest shard that holds the clips of ``name``; None where none is left."""
        children = {
            entry.replaces: entry.name
            for entry in (*self.older.values(), *self.newest.values())
            if entry.replaces is not None
        }
        following: str | None = name
        while following is not None and following not in self.newest:
            following = children.get(following)
        return following

    def own_tars(self, entries: Iterable[ShardEntry]) -> set[str]:
        """Return the names of the tars of some entries, as far as they are the set's own."""
        return {entry.url or entry.name for entry in entries if not entry.is_adopted}


def read_indexes(dest: str, names: Iterable[str]) -> Iterable[ShardIndex]:
    """Yield the indexes of shards in order, several being read at a time."""
    with ThreadPoolExecutor(_READERS, "indexes") as pool:
        yield from pool.map(lambda name: shardset.load_index(dest, name), list(names))


def next_numbers(dest: str, reserved: Iterable[str]) -> dict[str, int]:
    """Return the first free shard number of each split; numbers are never used twice.

    Args:
        dest: the set.
        reserved: names of shards that are planned.
    """
    numbers: dict[str, int] = {}
    names = (name.replace(".index.json", ".tar") for name in storage.list_names(dest, retry=storage.AT_START))
    for name in (*names, *reserved):
        found = SHARD_NAME.fullmatch(name)
        if found:
            split = found["split"]
            numbers[split] = max(numbers.get(split, 0), int(found["number"]) + 1)
    return numbers


def seconds_of(sample: SampleEntry) -> float:
    """Return the length of a clip, as its record has it."""
    return sample.video.record.duration if sample.video is not None else round(sample.frames / sample.fps, 6)
