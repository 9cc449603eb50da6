"""What a run remembers of its shard sets: which they were, their parts and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pal_ds.config.sources import ShardSource
from pal_ds.formats.clip_selection import describe_where
from pal_ds.formats.shardset import Manifest

_END = "set it back, or start a new run.dir"


def identity_of_sources(
    sources: Sequence[ShardSource], manifests: Sequence[Manifest]
) -> list[dict[str, Any]]:
    """Return what a resume may not change of the shard sets; empty where one set is used as it is.

    Where a set lies may change, and where a file of keys lies: their contents may not.

    Raises:
        StorageError: a file of keys can't be read.
    """
    alone = len(sources) == 1
    found = [
        {
            "manifest": manifest.digest,
            "split": source.split,
            "val_split": source.val_split,
            "weight": None if alone else source.weight,
            "where": describe_where(source.where),
        }
        for source, manifest in zip(sources, manifests, strict=True)
    ]
    return [] if alone and found[0] == _plain(manifests[0].digest) else found


def changed_source(saved: Mapping[str, Any], current: Mapping[str, Any]) -> str | None:
    """Say what is not as it was about the shard sets of two identities; None where all is, or one plain set is meant.

    Args:
        saved: the identity that a run began with.
        current: the identity of this start.
    """
    if not saved.get("sources") and not current.get("sources"):
        return None
    before, now = ((each.get("sources") or [_plain(each["manifest"])]) for each in (saved, current))
    if len(before) != len(now):
        return f"data.shards has {len(now)} sets: this run began with {len(before)}; {_END}"
    for number, (one, two) in enumerate(zip(before, now, strict=True)):
        if one["manifest"] != two["manifest"]:
            return (
                f"data.shards[{number}]: the shard set's manifest is not the one this run began with; use the sets "
                "of the first start, in their order, or start a new run.dir"
            )
        for name in ("split", "val_split", "weight"):
            if one[name] != two[name]:
                return (
                    f"data.shards[{number}].{name} = {two[name]!r}: this run began with {one[name]!r}; {_END}"
                )
        for name in sorted({*one["where"], *two["where"]}):
            was, is_ = one["where"].get(name), two["where"].get(name)
            if was != is_:
                return f"data.shards[{number}].where.{name} = {is_!r}: this run began with {was!r}; {_END}"
    return None


def _plain(digest: str) -> dict[str, Any]:
    """Return how one set, used as it is, would be listed."""
    return {"manifest": digest, "split": "train", "val_split": None, "weight": None, "where": {}}
