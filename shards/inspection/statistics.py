"""``pal-shard stats`` and ``ls``: what is in a shard set, from its manifest and indexes alone."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset

from ..builder.finish import copied_clips, read_stages

_BINS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts over equal bins between the smallest and the largest value."""

    low: float
    high: float
    mean: float
    counts: list[int]


def statistics(dest: str) -> dict[str, Any]:
    """Return totals, histograms of duration, frame rate and bytes, and rejects by stage.

    Raises:
        ShardSetError: there is no finished set at ``dest``.
        StorageError: it can't be read.
    """
    manifest = shardset.load_manifest(dest)
    splits: dict[str, Any] = {}
    for name, split in sorted(manifest.splits.items()):
        durations: list[float] = []
        sizes: list[float] = []
        rates: collections.Counter[float] = collections.Counter()
        for entry in split.shards:
            for sample in shardset.load_index(dest, entry.name).samples:
                durations.append(sample.frames / sample.fps)
                sizes.append(float(sample.size))
                rates[round(sample.fps, 3)] += 1
        splits[name] = {
            "clips": split.clips,
            "frames": split.frames,
            "seconds": split.seconds,
            "bytes": split.bytes,
            "shards": len(split.shards),
            "duration": _histogram(durations),
            "clip_bytes": _histogram(sizes),
            "fps": [[rate, count] for rate, count in sorted(rates.items())],
            "shard_bytes": _histogram([float(entry.bytes) for entry in split.shards]),
        }
    stages = read_stages(dest, manifest) if manifest.rejected else {}
    return {
        "dest": storage.redact(dest),
        "clips": sum(split["clips"] for split in splits.values()),
        "rejected": manifest.rejected,
        "rejects": stages,
        "copied": copied_clips(manifest),
        "labels": None if manifest.labels is None else len(manifest.labels),
        "profile": manifest.recipe.get("profile"),
        "splits": splits,
    }


def listing(dest: str, shard: str | None) -> dict[str, Any]:
    """Return the shards of a set, or the samples of one shard.

    Raises:
        ShardSetError: no set at ``dest``, or no such shard in it.
    """
    manifest = shardset.load_manifest(dest)
    entries = {
        entry.name: (name, entry) for name, split in sorted(manifest.splits.items()) for entry in split.shards
    }
    if shard is None:
        rows = [{"split": name, **dataclasses.asdict(entry)} for name, entry in entries.values()]
        return {"dest": storage.redact(dest), "shards": rows}
    name = shard if shard.endswith(".tar") else f"{shard}.tar"
    if name not in entries:
        raise shardset.ShardSetError(f"{storage.redact(dest)}: has no shard {shard!r}")
    index = shardset.load_index(dest, name)
    rows = [sample.to_row() for sample in index.samples]
    return {"dest": storage.redact(dest), "shard": name, "samples": rows}


def _histogram(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    low, high = min(values), max(values)
    width = (high - low) / _BINS or 1.0
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int((value - low) / width))] += 1
    return dataclasses.asdict(Histogram(low=low, high=high, mean=sum(values) / len(values), counts=counts))
