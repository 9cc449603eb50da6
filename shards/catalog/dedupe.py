"""``--dedupe content``: finds sources with equal bytes under different names before anything is encoded."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from pal_ds import storage

from ..errors import Rejected
from .database import decode
from .origins import Origins
from .rows import Row

_READ_BYTES = 1 << 20


def mark_equal_content(database: sqlite3.Connection, roots: Sequence[str], scratch: Path) -> None:
    """Reject all but the smallest source of the inputs whose files and spans are equal.

    Only files of equal size and equal span can be equal, so only those are read.

    Raises:
        StorageError: a source can't be read.
    """
    origins = Origins(roots)
    query = """WITH files AS (SELECT * FROM inputs WHERE stage IS NULL AND (offset < 0 OR member IS NOT NULL))
               SELECT id, source, root, location, size, start, "end", span, offset, member FROM files
               WHERE (size, ifnull(start, -1), ifnull("end", -1)) IN (
                   SELECT size, ifnull(start, -1), ifnull("end", -1) FROM files GROUP BY 1, 2, 3 HAVING count(*) > 1)
               ORDER BY source, root, location, id"""
    first: dict[tuple[object, ...], str] = {}
    equal: list[tuple[str, int]] = []
    hashes: dict[tuple[int, bytes, int], str | None] = {}
    for number, source, root, location, size, start, end, span, offset, member in database.execute(
        query
    ).fetchall():
        if (root, location, offset) not in hashes:
            row = Row(
                source=decode(source),
                root=root,
                location=decode(location),
                size=size,
                offset=offset,
                member=None if member is None else decode(member),
            )
            hashes[root, location, offset] = _hash(origins, row, scratch)
        digest = hashes[root, location, offset]
        if digest is None:
            continue
        winner = first.setdefault((digest, start, end, span), decode(source))
        if winner != decode(source):
            equal.append((f"equal content to {winner}", number))
    database.executemany("UPDATE inputs SET stage = 'duplicate', error = ? WHERE id = ?", equal)


def _hash(origins: Origins, row: Row, scratch: Path) -> str | None:
    """Return a file's SHA-256, or None where it can't be read: the build will find out why."""
    with contextlib.suppress(Rejected, OSError):
        hasher = hashlib.sha256()
        for piece in _pieces(origins, row, scratch):
            hasher.update(piece)
        return hasher.hexdigest()
    return None


def _pieces(origins: Origins, row: Row, scratch: Path) -> Iterator[bytes]:
    if not storage.is_local(origins.roots[row.root]):
        url = storage.join(origins.roots[row.root], row.location)
        first = max(0, row.offset)
        last = first + (row.size or 0)
        for start in range(first, last, storage.PIECE_BYTES):
            yield storage.read_range(url, start, min(last, start + storage.PIECE_BYTES))
        return
    with origins.open(row, scratch) as fetched, fetched.path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            yield piece
