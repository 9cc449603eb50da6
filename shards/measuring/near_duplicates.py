"""``--dedupe near``: finds clips that show the same, whatever their encoding, before anything is encoded.

Clips are gone through by source, so the smallest one of several wins whoever measured them. Those that stay are
kept in tables on scratch disk, looked up by pieces of their perceptual hash: memory stays flat.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..catalog.database import ROW_COLUMNS, decode, encode, rows_from
from ..catalog.films import Films
from ..catalog.gather import Catalog
from ..catalog.origins import Origins
from ..catalog.rows import CUT, WHOLE, Row
from ..encoding import ffmpeg_info
from ..encoding.clip_filters import ClipFilters
from ..encoding.clip_spans import resolve_span
from ..errors import Rejected
from ..progress import Progress
from .measurements import USABLE, Measurements, measure_rows, name_of
from .thumbnails import FRAMES, HEIGHT, LEAST_MOTION, MOST_BITS, WIDTH, Thumbnail, alike, take_thumbnail

KIND = f"thumbnail {FRAMES}x{HEIGHT}x{WIDTH}"
#: Clips that one is compared with under one value of its hash, at most: the smallest sources.
_MOST_CANDIDATES = 64
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;
CREATE TABLE kept (id INTEGER PRIMARY KEY, source BLOB, grp BLOB, thumbnail TEXT);
CREATE TABLE lookup (place INTEGER, value INTEGER, id INTEGER, PRIMARY KEY (place, value, id)) WITHOUT ROWID;
"""


def near_recipe() -> dict[str, Any]:
    """Return what decides which clips are near duplicates, beside the ffmpeg build."""
    return {"thumbnail": [FRAMES, HEIGHT, WIDTH], "most_bits": MOST_BITS, "least_motion": LEAST_MOTION}


def mark_near_duplicates(
    catalog: Catalog,
    store: Measurements,
    scratch: Path,
    *,
    filters: ClipFilters,
    timeout: float,
    workers: int,
    share: tuple[int, int],
    quiet: bool,
) -> None:
    """Reject every clip that is nearly a copy of one with a smaller source; pieces of one recording never are.

    Args:
        catalog: the inputs, cut where they are to be cut.
        store: where thumbnails are kept.
        scratch: folder for remote videos and for the tables.
        filters: what they refuse for its size or length wins over nothing.
        timeout: seconds that a tool may take for a clip.
        workers: clips at a time.
        share: this task's number and the number of tasks.
        quiet: no progress on stderr.

    Raises:
        StorageError: a store fails beyond its budget.
    """
    origins = Origins(catalog.roots, films=Films(scratch))

    def measure(row: Row) -> dict[str, Any]:
        with origins.open(row, scratch) as fetched:
            info = ffmpeg_info.probe(fetched.path, timeout=timeout)
            cut = row.span == CUT or (row.span != WHOLE and resolve_span(row, info.duration) == CUT)
            start, seconds = (row.start or 0.0, row.seconds or 0.0) if cut else (0.0, info.duration)
            found = None if seconds <= 0 else take_thumbnail(fetched.path, start, seconds, timeout=timeout)
        if found is None:
            return {}
        return {"thumbnail": found.to_text(), "side": min(info.width, info.height), "seconds": seconds}

    count = catalog.database.execute(f"SELECT count(*) FROM inputs WHERE {USABLE}").fetchone()[0]  # noqa: S608
    with Progress(count, label="clips compared", quiet=quiet) as progress:
        measure_rows(catalog, USABLE, KIND, measure, store, workers=workers, share=share, progress=progress)
    table = sqlite3.connect(scratch / "near.sqlite", isolation_level=None)
    try:
        table.executescript(_SCHEMA)
        table.execute("BEGIN")
        found = list(_losers(catalog, store, table, filters))
    finally:
        table.close()
    catalog.database.execute("BEGIN")
    catalog.database.executemany("UPDATE inputs SET stage = 'duplicate', error = ? WHERE id = ?", found)
    catalog.database.execute("COMMIT")


def _losers(
    catalog: Catalog, store: Measurements, table: sqlite3.Connection, filters: ClipFilters
) -> Iterator[tuple[str, int]]:
    """Yield the error and the number of every near duplicate."""
    query = f"SELECT id, {ROW_COLUMNS} FROM inputs WHERE {USABLE} ORDER BY source, root, location, id"  # noqa: S608
    for order, line in enumerate(catalog.database.execute(query)):
        number, row = line[0], next(rows_from([line[1:]]))
        value = store.get(KIND, name_of(catalog, row))
        # What can't be looked at, or is refused in any case, is left to the build, which says why.
        if "thumbnail" not in value or not _passes(value, filters):
            continue
        thumbnail = Thumbnail.from_text(value["thumbnail"])
        winner = _winner(table, row.group, thumbnail)
        if winner is not None:
            source, differing = winner
            yield f"near duplicate of {source} ({differing:.1%} of the hash differs)", number
            continue
        insert = "INSERT INTO kept VALUES (?, ?, ?, ?)"
        table.execute(insert, (order, encode(row.source), encode(row.group), value["thumbnail"]))
        table.executemany(
            "INSERT INTO lookup VALUES (?, ?, ?)", ((*place, order) for place in thumbnail.values())
        )


def _passes(value: dict[str, Any], filters: ClipFilters) -> bool:
    try:
        filters.check_side(value["side"], value["side"])
        filters.check_seconds(value["seconds"])
    except Rejected:
        return False
    return True


def _winner(table: sqlite3.Connection, group: str, thumbnail: Thumbnail) -> tuple[str, float] | None:
    """Return the smallest kept source that a clip is a near duplicate of, and how far it is from it."""
    candidates: set[int] = set()
    for place in thumbnail.values():
        query = "SELECT id FROM lookup WHERE place = ? AND value = ? ORDER BY id LIMIT ?"
        candidates.update(line[0] for line in table.execute(query, (*place, _MOST_CANDIDATES)))
    found: list[tuple[bytes, float]] = []
    for number in candidates:
        query = "SELECT source, grp, thumbnail FROM kept WHERE id = ?"
        source, recording, text = table.execute(query, (number,)).fetchone()
        if recording != encode(group):
            differing = alike(thumbnail, Thumbnail.from_text(text))
            if differing is not None:
                found.append((source, differing))
    return (decode(min(found)[0]), min(found)[1]) if found else None
