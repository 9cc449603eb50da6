"""The tables that hold a catalog on scratch disk, and the way of rows in and out of them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from .rows import Row

Item = TypeVar("Item")

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -1024;
CREATE TABLE files (root INTEGER, stem BLOB, relative BLOB, size INTEGER, error TEXT,
                    PRIMARY KEY (root, stem, relative)) WITHOUT ROWID;
CREATE TABLE inputs (id INTEGER PRIMARY KEY, key TEXT, source BLOB, root INTEGER, location BLOB, size INTEGER,
                     start REAL, "end" REAL, span TEXT, label TEXT, grp BLOB, offset INTEGER, split TEXT,
                     member BLOB, stage TEXT, error TEXT, shuffle BLOB);
CREATE TABLE cut (source BLOB PRIMARY KEY) WITHOUT ROWID;
"""
INSERT = "INSERT INTO inputs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ROW_COLUMNS = 'source, root, location, size, start, "end", span, label, grp, offset, split, member'

#: Gives every four clips of a split and label, in the order of the shuffle, the shuffle's key of the first of them;
#: ``{split}`` is the expression of the split.
TOGETHER_BY_LABEL = """
UPDATE inputs SET shuffle = run.shuffle FROM (
    SELECT id, first_value(shuffle) OVER (PARTITION BY target, label, place / 4 ORDER BY place) AS shuffle FROM (
        SELECT id, {split} AS target, label, shuffle,
               row_number() OVER (PARTITION BY {split}, label ORDER BY shuffle, source, id) - 1 AS place
        FROM inputs WHERE stage IS NULL AND label IS NOT NULL
    )
) AS run WHERE inputs.id = run.id
"""

#: From so many rows on, a table's pages are worth more memory than the 1 MiB above (KiB, as SQLite's pragma has it).
MANY_ROWS = 50_000
LARGE_CACHE_KIB = 131_072


def with_large_cache(database: sqlite3.Connection, items: Iterable[Item]) -> Iterator[Item]:
    """Yield what is to be inserted, and widen the database's page cache where it turns out to be much."""
    for number, item in enumerate(items, start=1):
        if number == MANY_ROWS:
            database.execute(f"PRAGMA cache_size = -{LARGE_CACHE_KIB}")
        yield item


def encode(text: str) -> bytes:
    """Return the bytes of a name, also where the file system's were not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """Undo :func:`encode`."""
    return data.decode("utf-8", "surrogateescape")


def rows_from(cursor: Iterable[Sequence[object]]) -> Iterator[Row]:
    """Turn database rows of the columns in :data:`ROW_COLUMNS` into rows."""
    for source, root, location, size, start, end, span, label, group, offset, split, member in cursor:
        yield Row(
            source=decode(source),  # type: ignore[arg-type]
            root=root,  # type: ignore[arg-type]
            location=decode(location),  # type: ignore[arg-type]
            size=size,  # type: ignore[arg-type]
            start=start,  # type: ignore[arg-type]
            end=end,  # type: ignore[arg-type]
            span=span,  # type: ignore[arg-type]
            label=None if label is None else decode(label),  # type: ignore[arg-type]
            group=decode(group),  # type: ignore[arg-type]
            offset=offset,  # type: ignore[arg-type]
            split=split,  # type: ignore[arg-type]
            member=None if member is None else decode(member),  # type: ignore[arg-type]
        )


def keyed_hash(key: bytes, text: str, purpose: bytes) -> bytes:
    """Return 8 bytes that depend on the seed, a name and a purpose, and on nothing else."""
    return hashlib.blake2b(encode(text), digest_size=8, key=key, person=purpose).digest()


def values_of(
    item: tuple[Row, str | None, str | None], key: bytes, *, keep_recordings: bool = False
) -> tuple[object, ...]:
    """Return what :data:`INSERT` takes for a row, the stage and the error of its reject, and the shuffle's key.

    Args:
        item: the row, and the stage and the error if it is a reject.
        key: of the keyed hash that shuffles.
        keep_recordings: shuffle recordings instead of clips: those of one recording get equal keys.
    """
    row, stage, error = item
    return (
        row.key,
        encode(row.source),
        row.root,
        encode(row.location),
        row.size,
        row.start,
        row.end,
        row.span,
        None if row.label is None else encode(row.label),
        encode(row.group),
        row.offset,
        row.split,
        None if row.member is None else encode(row.member),
        stage,
        error,
        keyed_hash(key, row.group if keep_recordings else row.source, b"shuffle"),
    )
