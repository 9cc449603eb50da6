"""What a removal or compaction is about to do, written before it does anything: who comes next can finish it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pal_ds import storage
from pal_ds.formats.shard_files import INTENT_NAME, ShardSetError, checked_shard_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardChange:
    """One shard that is replaced.

    Attributes:
        split: its split.
        old: its name.
        new: name of the shard that takes its place; None where no clip is left.
        keys: clips that are left out.
        is_rewritten: its clips get a tar of their own; else only a new index, for the same tar.
    """

    split: str
    old: str
    new: str | None
    keys: tuple[str, ...]
    is_rewritten: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intent:
    """A change of some shards.

    Attributes:
        changes: shard by shard.
        time: UTC, ISO 8601.
        reason: for the audit.
        purge: delete tars that no newest shard needs afterwards.
    """

    changes: tuple[ShardChange, ...]
    time: str
    reason: str
    purge: bool

    @property
    def keys(self) -> list[str]:
        """Clips that are taken down."""
        return [key for change in self.changes for key in change.keys]

    @property
    def names(self) -> set[str]:
        """Names of the shards that are to be made."""
        return {change.new for change in self.changes if change.new is not None}


def write_intent(dest: str, intent: Intent) -> None:
    """Publish an intent: from here on the change will be made."""
    data = json.dumps(dataclasses.asdict(intent), separators=(",", ":")) + "\n"
    storage.write_bytes(storage.join(dest, INTENT_NAME), data.encode(), retry=storage.AT_START)


def read_intent(dest: str) -> Intent | None:
    """Return the change under way at ``dest``, or None.

    Raises:
        ShardSetError: the file is damaged.
    """
    try:
        data = storage.read_bytes(storage.join(dest, INTENT_NAME), retry=storage.AT_START)
    except storage.StorageNotFoundError:
        return None
    try:
        document: dict[str, Any] = json.loads(data)
        return Intent(
            changes=tuple(_change_of(change) for change in document["changes"]),
            time=document["time"],
            reason=document["reason"],
            purge=document["purge"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ShardSetError(f"{INTENT_NAME}: damaged: {error}") from error


def _change_of(row: dict[str, Any]) -> ShardChange:
    checked_shard_name(row["old"])
    if row["new"] is not None:
        checked_shard_name(row["new"])
    return ShardChange(**{**row, "keys": tuple(row["keys"])})


def drop_intent(dest: str) -> None:
    """Say that nothing is under way any more."""
    storage.remove(storage.join(dest, INTENT_NAME))
