"""A bounded folder of pieces that were read from a store, shared by the processes of a host.

Pieces are files, named by their keys and checked by a digest when they are read. A small database beside them counts
their bytes: a piece is entered before it is written and struck out after it is gone, so the folder never holds more
than its limit, whoever is killed at whatever moment. Nothing here raises: what can't be kept is not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger("pal_ds.storage")

_DATABASE = "cache.sqlite"
_DIGEST_BYTES = 16
#: Disks give space in blocks of this size; a piece's entry and name take up to ``_ENTRY_BYTES`` more.
_BLOCK_BYTES, _ENTRY_BYTES = 4096, 512
#: A piece that was entered so long ago and never came was being written by a process that is gone (seconds).
_LOST_SECONDS = 600.0
#: In a full cache, pieces that were not used for so long make room for any other (seconds) …
IDLE_SECONDS = 3600.0
#: … and where all are in use, one in so many new pieces replaces the one used longest ago. Epochs go through a set in
#: another order each: a cache that took every piece would lose most of them before they are needed again.
ADMITTED = 8
_FLUSH_SECONDS, _FLUSH_NAMES = 5.0, 500
_BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pieces (name TEXT PRIMARY KEY, bytes INTEGER, used REAL, ready INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON pieces (used);
CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY CHECK (id = 0), bytes INTEGER);
INSERT OR IGNORE INTO total VALUES (0, 0);
"""


class DiskCache:
    """Pieces by name; safe to use from every thread, but not across a fork.

    Args:
        folder: a folder on a local disk, made if need be.
        limit_bytes: what all pieces may take there.
        clock: seconds since the epoch.
    """

    def __init__(self, folder: Path, limit_bytes: int, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}
        self._flushed = clock()
        self._database: sqlite3.Connection | None = None
        with self._giving_up():
            folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(
                folder / _DATABASE, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            with _transaction(database):
                for statement in _SCHEMA.strip().split(";\n"):
                    database.execute(statement)
                self._make_room(database, 0, wanted=True)
            self._database = database

    @property
    def keeps(self) -> bool:
        """Whether new pieces are still kept."""
        return self._database is not None

    def get(self, name: str) -> bytes | None:
        """Return a piece, or None where it isn't there or was damaged."""
        path = self._path(name)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        piece = data[_DIGEST_BYTES:]
        if _digest(piece) != data[:_DIGEST_BYTES]:
            self.drop(name)
            return None
        self._touch(name)
        return piece

    def mapped(self, name: str) -> memoryview | None:
        """Return a piece without reading it, or None where it isn't there.

        Its digest is not checked: who reads a part of it checks that part, and calls :meth:`drop` where it is wrong.
        """
        try:
            with self._path(name).open("rb") as file:
                held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError:
            return None
        except ValueError:
            # Empty, which can't be mapped.
            self.drop(name)
            return None
        self._touch(name)
        return memoryview(held)[_DIGEST_BYTES:]

    def drop(self, name: str) -> None:
        """Remove a damaged piece: one that a power failure cut, say.

        Its entry stays, as that of a piece that was there, and is filled again.
        """
        with self._giving_up():
            self._path(name).unlink(missing_ok=True)
            self._touch(name)
            self._flush()

    def put(self, name: str, piece: bytes) -> None:
        """Keep a piece, if there is room or room can be made."""
        self.fill(name, len(piece), lambda: piece)

    def fill(self, name: str, length: int, make: Callable[[], bytes]) -> bytes | None:
        """Make a piece and keep it, where it has a place; else make nothing and return None.

        Args:
            name: of the piece.
            length: its bytes.
            make: makes it, and is only called where there is a place. What it raises is raised.
        """
        path = self._path(name)
        entered = False
        with self._giving_up():
            entered = self._enter(name, path, _cost(length))
        if not entered:
            return None
        try:
            piece = make()
        except BaseException:
            with self._giving_up():
                self._strike(name)
            raise
        with self._giving_up():
            self._write(name, path, piece)
        return piece

    def close(self) -> None:
        """Note what was used last, and close the database."""
        with self._giving_up():
            self._flush()
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _enter(self, name: str, path: Path, cost: int) -> bool:
        """Enter a piece that is about to be written; False where it is there, being written, or has no place."""
        with self._lock:
            database, now = self._database, self._clock()
            if database is None or cost > self._limit:
                return False
            with _transaction(database):
                row = database.execute("SELECT used, ready FROM pieces WHERE name = ?", (name,)).fetchone()
                if row is not None:
                    used, ready = row
                    if path.exists() or (not ready and used > now - _LOST_SECONDS):
                        return False
                    database.execute("UPDATE pieces SET used = ?, ready = 0 WHERE name = ?", (now, name))
                    return True
                if not self._make_room(database, cost, wanted=_is_admitted(name)):
                    return False
                database.execute("INSERT INTO pieces VALUES (?, ?, ?, 0)", (name, cost, now))
                database.execute("UPDATE total SET bytes = bytes + ?", (cost,))
        return True

    def _write(self, name: str, path: Path, piece: bytes) -> None:
        temporary = path.with_name(f"{name}.tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            temporary.write_bytes(_digest(piece) + piece)
            temporary.rename(path)
        except FileNotFoundError:
            # So slow that it was taken for lost, and its file removed.
            return
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._touch(name)

    def _strike(self, name: str) -> None:
        """Take back the entry of a piece that is not going to be written."""
        with self._lock:
            if self._database is None:
                return
            with _transaction(self._database) as database:
                row = database.execute("SELECT bytes FROM pieces WHERE name = ?", (name,)).fetchone()
                if row is not None:
                    database.execute("DELETE FROM pieces WHERE name = ?", (name,))
                    database.execute("UPDATE total SET bytes = bytes - ?", row)

    def _make_room(self, database: sqlite3.Connection, cost: int, *, wanted: bool) -> bool:
        """Remove what was used longest ago until ``cost`` more bytes fit; within a transaction."""
        (total,) = database.execute("SELECT bytes FROM total").fetchone()
        now = self._clock()
        while total + cost > self._limit:
            query = "SELECT name, bytes, used FROM pieces WHERE ready OR used < ? ORDER BY used LIMIT 1"
            row = database.execute(query, (now - _LOST_SECONDS,)).fetchone()
            if row is None or not (wanted or row[2] < now - IDLE_SECONDS):
                return False
            path = self._path(row[0])
            for each in (path, path.with_name(f"{row[0]}.tmp")):
                each.unlink(missing_ok=True)
            database.execute("DELETE FROM pieces WHERE name = ?", (row[0],))
            database.execute("UPDATE total SET bytes = bytes - ?", (row[1],))
            total -= row[1]
        return True

    def _touch(self, name: str) -> None:
        """Note that a piece is there and was used; told to the database with others."""
        with self._lock:
            self._touched[name] = self._clock()
            due = len(self._touched) >= _FLUSH_NAMES or self._clock() - self._flushed > _FLUSH_SECONDS
        if due:
            with self._giving_up():
                self._flush()

    def _flush(self) -> None:
        with self._lock:
            if self._database is None:
                self._touched.clear()
                return
            touched, self._touched = self._touched, {}
            self._flushed = self._clock()
            with _transaction(self._database):
                self._database.executemany(
                    "UPDATE pieces SET used = ?, ready = 1 WHERE name = ?",
                    ((used, name) for name, used in touched.items()),
                )

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Stop keeping pieces in this process where the disk or the database fails; what is there is still read."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            with self._lock:
                self._database = None
            log.warning("%s: no more is kept there: %s; reads go on from the store", self._folder, error)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _digest(piece: bytes) -> bytes:
    return hashlib.blake2b(piece, digest_size=_DIGEST_BYTES).digest()


def _cost(length: int) -> int:
    """Return what a piece takes on disk, its digest and its entry counted."""
    return -(-(length + _DIGEST_BYTES) // _BLOCK_BYTES) * _BLOCK_BYTES + _ENTRY_BYTES


def _is_admitted(name: str) -> bool:
    """Draw by the name whether a piece may replace one in use."""
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % ADMITTED == 0
