"""Reads, lists, writes and removes objects."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec.asyn

from pal_ds.storage.errors import check_writable
from pal_ds.storage.local import write_local
from pal_ds.storage.ranges import fetch_range
from pal_ds.storage.retry import DEFAULT_RETRY, ReadCounters, RetryPolicy, retrying
from pal_ds.storage.urls import is_local, join, local_path

#: A range is read in pieces of this size, so that a cut body costs at most one piece (bytes).
PIECE_BYTES = 8 << 20
#: A piece that fails is asked for in quarters, down to this: a connection that never lasts long still gets on.
SMALLEST_PIECE_BYTES = 64 << 10
#: Objects that one request deletes (S3's limit).
_BULK = 1000


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """One object below a folder: its URL, its path relative to the folder, its size in bytes."""

    url: str
    relative: str
    size: int


def read_bytes(
    url: str, *, retry: RetryPolicy = DEFAULT_RETRY, counters: ReadCounters | None = None
) -> bytes:
    """Read a whole object.

    Raises:
        StorageNotFoundError: it does not exist.
        StorageAccessError: the store refuses.
        StorageError: still failing after the budget.
    """
    counters = counters if counters is not None else ReadCounters()

    def attempt(fs: Any, path: str) -> bytes:
        counters.requests += 1
        return bytes(fs.cat_file(path))

    data = retrying(url, attempt, retry, counters)
    counters.bytes += len(data)
    return data


def read_range(
    url: str,
    start: int,
    end: int,
    *,
    retry: RetryPolicy = DEFAULT_RETRY,
    counters: ReadCounters | None = None,
) -> bytes:
    """Read bytes ``[start, end)`` of an object: exactly ``end - start`` bytes.

    A failure costs at most the piece under way; what has arrived is kept, and the next pieces are smaller.

    Raises:
        StorageNotFoundError: it does not exist.
        StorageAccessError: the store refuses.
        StorageError: still failing, or still too short, after the budget.
    """
    counters = counters if counters is not None else ReadCounters()
    pieces: list[bytes] = []
    good, length = start, PIECE_BYTES

    def attempt(fs: Any, path: str) -> bytes:
        nonlocal length
        counters.requests += 1
        wanted = min(length, end - good)
        length = min(PIECE_BYTES, max(SMALLEST_PIECE_BYTES, length // 4))
        data = fetch_range(fs, path, good, good + wanted)
        if len(data) != wanted:
            raise OSError(f"{len(data)} bytes for the range {good}-{good + wanted}")
        length = min(PIECE_BYTES, 2 * max(wanted, length))
        return data

    while good < end:
        pieces.append(retrying(url, attempt, retry, counters))
        good += len(pieces[-1])
        counters.bytes += len(pieces[-1])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write_bytes(url: str, data: bytes, *, retry: RetryPolicy = DEFAULT_RETRY) -> None:
    """Write an object atomically: readers see the old one or the whole new one.

    Raises:
        StorageAccessError: the store refuses.
        StorageError: still failing after the budget.
    """
    check_writable(url)
    if is_local(url):
        write_local(local_path(url), data)
        return
    retrying(url, lambda fs, path: fs.pipe_file(path, data), retry, ReadCounters())


def exists(url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> bool:
    """Tell whether an object or folder exists."""
    return bool(retrying(url, lambda fs, path: fs.exists(path), retry, ReadCounters()))


def bucket_exists(url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> bool:
    """Tell whether a bucket exists.

    Raises:
        StorageAccessError: it may not be asked for.
        StorageError: its store can't be reached.
    """

    def attempt(fs: Any, path: str) -> bool:
        if fs.exists(path):
            return True
        # s3fs says no whatever has failed: this says what.
        if hasattr(fs, "call_s3"):
            with contextlib.suppress(FileNotFoundError):
                fs.call_s3("head_bucket", Bucket=path)
                return True
        return False

    return bool(retrying(url, attempt, retry, ReadCounters()))


def size(url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> int:
    """Return the size of an object in bytes.

    Raises:
        StorageNotFoundError: it does not exist.
    """
    return int(retrying(url, lambda fs, path: fs.info(path)["size"], retry, ReadCounters()))


def list_names(url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> list[str]:
    """Return the sorted names of a folder's direct children; empty where the folder does not exist."""

    def attempt(fs: Any, path: str) -> list[str]:
        try:
            found = fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        here = str(fs._strip_protocol(path)).rstrip("/")
        names = {
            str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found if str(entry).rstrip("/") != here
        }
        return sorted(names)

    return retrying(url, attempt, retry, ReadCounters())


def iter_files(url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> Iterator[FileInfo]:
    """Yield every object below a folder, a folder at a time in sorted order, without holding the whole list.

    Symbolic links to folders are not followed, so that a loop ends.
    """
    pending = [""]
    while pending:
        folder = pending.pop()
        folder_url = join(url, folder) if folder else url

        def attempt(fs: Any, path: str) -> list[dict[str, Any]]:
            return [
                entry
                for entry in fs.ls(path, detail=True)
                if str(entry["name"]).rstrip("/") != path.rstrip("/")
            ]

        entries = retrying(folder_url, attempt, retry, ReadCounters())
        for entry in sorted(entries, key=lambda item: str(item["name"])):
            name = str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
            relative = f"{folder}/{name}" if folder else name
            if entry["type"] == "directory":
                pending.append(relative)
            elif not (is_local(url) and local_path(join(url, relative)).is_dir()):
                yield FileInfo(join(url, relative), relative, int(entry.get("size") or 0))


def remove(url: str, *, recursive: bool = False, retry: RetryPolicy = DEFAULT_RETRY) -> None:
    """Delete an object, or with ``recursive`` a folder; nothing happens where it does not exist.

    Names are taken literally: fsspec's own removal takes ``[``, ``*`` and ``?`` in a path for a pattern, which may
    match another folder's objects.
    """

    def attempt(fs: Any, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if is_local(url):
                fs.rm(path, recursive=recursive)
                return
            inside = f"{path.rstrip('/')}/"
            names = (
                [name for name in map(str, fs.find(path)) if name.startswith(inside)] if recursive else [path]
            )
            for first in range(0, len(names), _BULK):
                _remove_all(fs, names[first : first + _BULK])

    retrying(url, attempt, retry, ReadCounters())


def remove_names(url: str, names: Iterable[str], *, retry: RetryPolicy = DEFAULT_RETRY) -> None:
    """Delete objects of one folder by their names, several by a request; those that do not exist are passed over."""

    def attempt(fs: Any, path: str) -> None:
        paths = [f"{path.rstrip('/')}/{name}" for name in names]
        for first in range(0, len(paths), _BULK):
            _remove_all(fs, paths[first : first + _BULK])

    names = list(names)
    if is_local(url):
        for name in names:
            local_path(join(url, name)).unlink(missing_ok=True)
        return
    retrying(url, attempt, retry, ReadCounters())


def _remove_all(fs: Any, paths: list[str]) -> None:
    """Delete the objects of exact names that are there, by one request where the store has one for it."""
    if len(paths) > 1 and hasattr(fs, "_bulk_delete"):
        fsspec.asyn.sync(fs.loop, fs._bulk_delete, paths)
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(path)


def make_folder(url: str) -> None:
    """Make a local folder with its parents; object stores have no folders, so nothing happens there."""
    if is_local(url):
        local_path(url).mkdir(parents=True, exist_ok=True)
