"""``removals.jsonl``: that a clip was taken down, when and why; nothing of its content."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from pal_ds import storage
from pal_ds.formats.shard_files import REMOVALS_NAME
from pal_ds.formats.shardset import ShardSetError


@dataclasses.dataclass(frozen=True)
class Removal:
    """One line: key, time (UTC, ISO 8601) and reason."""

    key: str
    time: str
    reason: str


def read_removals(dest: str) -> dict[str, Removal]:
    """Return what was taken down from a set, by key; empty where nothing was.

    Raises:
        ShardSetError: a line is malformed.
        StorageError: the file can't be read.
    """
    try:
        data = storage.read_bytes(storage.join(dest, REMOVALS_NAME), retry=storage.AT_START)
    except storage.StorageNotFoundError:
        return {}
    found: dict[str, Removal] = {}
    for line in data.splitlines():
        try:
            row = json.loads(line)
            found[str(row["key"])] = Removal(str(row["key"]), str(row["time"]), str(row["reason"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ShardSetError(f"{REMOVALS_NAME}: malformed line: {error}") from error
    return found


def add_removals(dest: str, removals: Iterable[Removal]) -> None:
    """Write removals into the audit, each key once; where all are there nothing is written."""
    known = read_removals(dest)
    new = {removal.key: removal for removal in removals if removal.key not in known}
    if not new:
        return
    known |= new
    lines = (json.dumps(dataclasses.asdict(removal), ensure_ascii=True) for removal in known.values())
    storage.write_bytes(storage.join(dest, REMOVALS_NAME), ("\n".join(lines) + "\n").encode())
