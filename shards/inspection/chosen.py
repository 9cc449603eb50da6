"""``pal-shard ls --where``: which clips a run with these conditions would use."""

from __future__ import annotations

from typing import Any

import numpy as np

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.clip_selection import ConditionError, Selection, describe_where, parse_where, select
from pal_ds.formats.shardset import SplitEntry

from ..errors import UsageError
from ..progress import Progress
from .statistics import listing

#: Splits of fewer shards are read without a word.
_LONG = 200


def chosen(dest: str, text: str, shard: str | None, *, quiet: bool) -> dict[str, Any]:
    """Return how many clips of every split and shard meet conditions, or the samples of one shard that do.

    Args:
        dest: the shard set.
        text: the conditions, as a mapping in YAML; its braces may be left out.
        shard: the shard whose samples are listed; None for counts of all.
        quiet: no progress on stderr.

    Raises:
        UsageError: the conditions can't be understood.
        ShardSetError: no set at ``dest``, no such shard, or a file that can't be understood.
        StorageError: something can't be read.
    """
    try:
        where = parse_where(text)
    except ConditionError as error:
        raise UsageError(f"--where: {error}") from error
    manifest = shardset.load_manifest(dest)
    found: dict[str, Any] = {"dest": storage.redact(dest), "where": describe_where(where)}

    def choose(split: SplitEntry) -> Selection:
        silent = quiet or len(split.shards) < _LONG
        with Progress(len(split.shards), label="shards", quiet=silent) as bar:
            return select(dest, split, where, progress=lambda _done, _all: bar.clip(0))

    if shard is not None:
        whole = listing(dest, shard)
        split, entry = next(
            (split, entry)
            for split in manifest.splits.values()
            for entry in split.shards
            if entry.name == whole["shard"]
        )
        alone = SplitEntry(
            clips=entry.clips, frames=split.frames, seconds=0.0, bytes=entry.bytes, shards=(entry,)
        )
        kept = np.flatnonzero(choose(alone).chosen(0)).tolist()
        rows = [whole["samples"][number] for number in kept]
        return {**whole, **found, "samples": rows, "of": entry.clips}
    return found | {"splits": {name: _figures(split, choose(split)) for name, split in _sorted(manifest)}}


def _sorted(manifest: shardset.Manifest) -> list[tuple[str, SplitEntry]]:
    return sorted(manifest.splits.items())


def _figures(split: SplitEntry, selection: Selection) -> dict[str, Any]:
    return {
        "clips": selection.clips,
        "of": split.clips,
        "frames": selection.frames,
        "seconds": selection.seconds,
        "bytes": sum(selection.shard_bytes),
        "shards": [
            {"name": entry.name, "clips": clips, "of": entry.clips}
            for entry, clips in zip(split.shards, selection.counts, strict=True)
        ],
    }
