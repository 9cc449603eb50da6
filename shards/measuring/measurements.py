"""What was measured of videos, kept at DEST until the set is finished: found once, whoever is interrupted."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.ffmpeg import process

from ..catalog.database import ROW_COLUMNS, encode, rows_from
from ..catalog.gather import Catalog
from ..catalog.rows import Reject, Row
from ..errors import Rejected
from ..progress import Progress

#: Rows in memory at a time, and measurements of one file at DEST.
BATCH = 256
_SAVE_VALUES = 4096
_SAVE_SECONDS = 30.0
_FILE = re.compile(r"measured-[0-9a-f]{16}\.jsonl")
#: Which rows of the catalog are looked at.
USABLE = "stage IS NULL"


class Measurements:
    """Values by kind and name, in a database on scratch disk, and in files at DEST for the next run.

    Args:
        path: database file to make.
        folder: where the files lie; None keeps nothing (dry runs).
    """

    def __init__(self, path: Path, folder: str | None) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(
            """PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
               CREATE TABLE measured (kind TEXT, name BLOB, value TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;"""
        )
        self._folder = folder
        self._seen: set[str] = set()
        self._unsaved: list[str] = []
        self._passing: dict[tuple[str, str], Any] = {}
        self._saved_at = time.monotonic()
        self._refresh()

    def get(self, kind: str, name: str) -> Any:
        """Return a value, or None where it was not measured."""
        query = "SELECT value FROM measured WHERE kind = ? AND name = ?"
        row = self._database.execute(query, (kind, encode(name))).fetchone()
        # What another run has found is worth more than a failure that may pass.
        return self._passing.get((kind, name)) if row is None else json.loads(row[0])

    def put(self, kind: str, name: str, value: Any, *, for_this_run: bool = False) -> None:
        """Keep a value; it is saved with others, at the latest by :meth:`save`, unless it is for this run alone."""
        if for_this_run:
            self._passing[kind, name] = value
            return
        line = json.dumps([kind, name, value], separators=(",", ":"))
        self._insert([line])
        self._unsaved.append(line)
        if len(self._unsaved) >= _SAVE_VALUES or time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Publish what is new, and take over what other tasks published meanwhile.

        Raises:
            StorageError: DEST can't be written or read.
        """
        if self._folder is not None and self._unsaved:
            name = f"measured-{secrets.token_hex(8)}.jsonl"
            data = "".join(f"{line}\n" for line in self._unsaved).encode()
            storage.make_folder(self._folder)
            storage.write_bytes(storage.join(self._folder, name), data)
            self._seen.add(name)
        self._unsaved = []
        self._saved_at = time.monotonic()
        self._refresh()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _refresh(self) -> None:
        if self._folder is None:
            return
        for name in storage.list_names(self._folder):
            if _FILE.fullmatch(name) and name not in self._seen:
                self._seen.add(name)
                data = storage.read_bytes(storage.join(self._folder, name))
                self._insert(data.decode("ascii").splitlines())

    def _insert(self, lines: list[str]) -> None:
        values = (json.loads(line) for line in lines)
        self._database.executemany(
            "INSERT OR IGNORE INTO measured VALUES (?, ?, ?)",
            ((kind, encode(name), json.dumps(value)) for kind, name, value in values),
        )


def name_of(catalog: Catalog, row: Row) -> str:
    """Return what a row's measurements are kept under: its file, the file's size and the span."""
    root = storage.redact(catalog.roots[row.root])
    return json.dumps([root, row.location, row.size, row.offset, row.start, row.end, row.span])


def rows_of(
    catalog: Catalog, condition: str, *, start: int = 0, end: int | None = None
) -> Iterator[list[tuple[int, Row]]]:
    """Yield the numbered rows of the catalog that meet an SQL condition, in order and a batch at a time.

    Args:
        catalog: the inputs; rows that are added on the way are not seen.
        condition: in terms of the table's columns.
        start: number of the first row.
        end: number after the last; None for all there are now.
    """
    database = catalog.database
    if end is None:
        end = int(database.execute("SELECT ifnull(max(id), 0) + 1 FROM inputs").fetchone()[0])
    query = (
        f"SELECT id, {ROW_COLUMNS} FROM inputs WHERE id >= ? AND id < ? AND {condition} "  # noqa: S608
        "ORDER BY id LIMIT ?"
    )
    while found := database.execute(query, (start, end, BATCH)).fetchall():
        yield list(zip((line[0] for line in found), rows_from(line[1:] for line in found), strict=True))
        start = found[-1][0] + 1


def measure_rows(
    catalog: Catalog,
    condition: str,
    kind: str,
    measure: Callable[[Row], Any],
    store: Measurements,
    *,
    workers: int,
    share: tuple[int, int],
    progress: Progress,
    keep_transient: bool = True,
) -> None:
    """Measure the rows that have not been measured, a few at a time; a rejection is a value too.

    Args:
        catalog: the inputs.
        condition: which of them, in SQL.
        kind: of the values.
        measure: gives a row's value as JSON can hold it, or raises :class:`Rejected`.
        store: where values are kept.
        workers: rows at a time.
        share: this task's number and the number of tasks: each begins elsewhere and takes over what others found.
        progress: told of every row.
        keep_transient: keep failures that may pass for the next run, too.

    Raises:
        StorageError: a source's store or DEST fails beyond its budget.
    """

    def attempt(row: Row) -> tuple[Any, bool]:
        for is_last in (False, True):
            try:
                return measure(row), False
            except Rejected as rejected:
                # A tool that was killed by someone else (out of memory, say) gets a second chance.
                if is_last or "killed by signal" not in rejected.error:
                    value = {"stage": rejected.stage, "error": rejected.error}
                    return value, Reject(row.source, **value).is_transient
        raise AssertionError("unreachable")

    end = int(catalog.database.execute("SELECT ifnull(max(id), 0) + 1 FROM inputs").fetchone()[0])
    first = end * share[0] // share[1]
    with ThreadPoolExecutor(workers, "measure") as pool:
        try:
            for span in ((first, end), (0, first)):
                for batch in rows_of(catalog, condition, start=span[0], end=span[1]):
                    rows = {name_of(catalog, row): row for _, row in batch}
                    todo = {name: row for name, row in rows.items() if store.get(kind, name) is None}
                    for name, (value, may_pass) in zip(todo, pool.map(attempt, todo.values()), strict=True):
                        store.put(kind, name, value, for_this_run=may_pass and not keep_transient)
                    for _ in batch:
                        progress.clip(0)
        except BaseException:
            # Else leaving would wait for the tools under way.
            process.stop_all()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    store.save()
