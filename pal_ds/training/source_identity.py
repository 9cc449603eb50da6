"""What a run remembers of its shard sets: which they were, their parts and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pal_ds.data.sources import OpenSource
from pal_ds.formats.clip_selection import describe_where

_END = "set it back, or start a new run.dir"


def identity_of_sources(sources: Sequence[OpenSource]) -> list[dict[str, Any]]:
    """Return what a resume may not change of the shard sets; empty where one set is used as it is.

    Where a set lies may change, and where a file of keys lies: their contents may not, nor what conditions choose.

    Args:
        sources: the training split of each set, with the chosen clips.

    Raises:
        StorageError: a file of keys can't be read.
    """
    alone = len(sources) == 1
    found = [
        {
            "manifest": source.manifest.digest,
            "split": source.config.split,
            "val_split": source.config.val_split,
            "weight": None if alone else source.config.weight,
            "where": describe_where(source.config.where),
            "chosen": None if source.selection is None else source.selection.digest,
        }
        for source in sources
    ]
    return [] if alone and found[0] == _plain(sources[0].manifest.digest) else found


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
    said = (
        _changed(f"data.shards[{number}]", *pair) for number, pair in enumerate(zip(before, now, strict=True))
    )
    return next(filter(None, said), None)


def digests_of(identity: Mapping[str, Any]) -> list[str]:
    """Return the digests of the manifests that a run began with, in the order of its shard sets."""
    return [str(source["manifest"]) for source in identity.get("sources") or [identity]]


def _changed(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say what is not as it was about one shard set."""
    if before["manifest"] != now["manifest"]:
        return (
            f"{name}: the shard set's manifest is not the one this run began with; use the sets of the first start, "
            "in their order, or start a new run.dir"
        )
    pairs = [(field, before[field], now[field]) for field in ("split", "val_split", "weight")]
    pairs += [
        (f"where.{field}", before["where"].get(field), now["where"].get(field))
        for field in sorted({*before["where"], *now["where"]})
    ]
    for field, was, is_now in pairs:
        if was != is_now:
            return f"{name}.{field} = {is_now!r}: this run began with {was!r}; {_END}"
    if before["chosen"] != now["chosen"]:
        return (
            f"{name}.where chooses other clips than when this run began: an index has changed; put selections/ of "
            "run.dir back, or start a new run.dir"
        )
    return None


def _plain(digest: str) -> dict[str, Any]:
    """Return how one set, used as it is, would be listed."""
    return {
        "manifest": digest,
        "split": "train",
        "val_split": None,
        "weight": None,
        "where": {},
        "chosen": None,
    }
