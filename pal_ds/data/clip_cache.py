"""Samples kept on a local disk, so that later epochs need not read them from the store (``data.cache_dir``)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pal_ds import storage
from pal_ds.config.data import DataConfig
from pal_ds.data.sources import OpenSource
from pal_ds.formats.shardset import ShardEntry
from pal_ds.storage.disk_cache import DiskCache


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheSpec:
    """Which cache a worker uses, and for which shards; small and picklable.

    Attributes:
        folder: on a local disk.
        limit_bytes: what all samples may take there.
        marks: of every shard, what names its content: its place, name and SHA-256 in 16 bytes.
        frames: whether decoded frames are kept there too (:mod:`frame_cache`).
    """

    folder: str
    limit_bytes: int
    marks: tuple[bytes, ...]
    frames: bool = False


def cache_spec(data: DataConfig, sources: Sequence[OpenSource]) -> CacheSpec | None:
    """Return the cache that the options ask for, or None.

    Args:
        data: the options.
        sources: the splits that are read, in the order in which their shards are counted.
    """
    if not data.cache_dir:
        return None
    marks = tuple(_mark(source.config.url, shard) for source in sources for shard in source.split.shards)
    return CacheSpec(
        folder=data.cache_dir, limit_bytes=data.cache_bytes, marks=marks, frames=data.cache_frames
    )


def _mark(url: str, shard: ShardEntry) -> bytes:
    place = storage.redact(url).rstrip("/")
    return hashlib.blake2b(f"{place}\n{shard.name}\n{shard.sha256}".encode(), digest_size=16).digest()


class ClipCache:
    """One worker's way to the cache of its host."""

    def __init__(self, spec: CacheSpec) -> None:
        self._marks = spec.marks
        self._disk = DiskCache(Path(spec.folder).expanduser(), spec.limit_bytes)

    def get(self, shard: int, key: str, offset: int, size: int) -> bytes | None:
        """Return the bytes of a sample, or None where they are not kept."""
        return self._disk.get(self._name(shard, key, offset, size))

    def put(self, shard: int, key: str, offset: int, sample: bytes) -> None:
        """Keep the bytes of a sample that was found sound."""
        self._disk.put(self._name(shard, key, offset, len(sample)), sample)

    def close(self) -> None:
        """Let go of it."""
        self._disk.close()

    def _name(self, shard: int, key: str, offset: int, size: int) -> str:
        # The key too: where a set was compacted, an index of before may say of another tar where its clips are now.
        text = f"{key}\n{offset} {size}".encode()
        return hashlib.blake2b(text, key=self._marks[shard], digest_size=16).hexdigest()
