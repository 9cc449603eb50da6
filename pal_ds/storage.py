"""Object storage by URL: the only room that touches fsspec (DESIGN.md §3.3).

Every place a user names is a URL; a plain path is ``file://``. Reads are whole ranges,
retried with jittered backoff from the last good piece within a budget of minutes; writes publish a whole
object or nothing.

A file system object is made lazily in each process and is never kept by callers, so that everything here
works with ``fork``, ``spawn`` and ``forkserver`` (s3fs refuses to be used across a fork).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import random
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit, urlunsplit

import fsspec

T = TypeVar("T")
log = logging.getLogger(__name__)

#: A range is read in pieces of this size, so that a cut body costs at most one piece (bytes).
PIECE_BYTES = 8 << 20


class StorageError(Exception):
    """A place could not be read or written within the retry budget."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = redact(url)
        self.reason = reason
        super().__init__(f"{self.url}: {reason}")

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, str]]:
        return type(self), (self.url, self.reason)


class StorageNotFoundError(StorageError):
    """The object, folder or bucket does not exist."""


class StorageAccessError(StorageError):
    """Refused: wrong or missing credentials, no permission, or no such endpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long a broken read or write is tried again.

    Attributes:
        budget_seconds: time from the first failure after which the error is raised.
        first_delay: upper bound of the first wait, in seconds; doubles with every failure.
        max_delay: upper bound of any wait, in seconds.
        patient_access: retry refusals (403) too, with renewed credentials; for the middle of a run, where an
            expired token is likelier than a wrong one (DESIGN.md §3.3).
    """

    budget_seconds: float = 600.0
    first_delay: float = 0.2
    max_delay: float = 20.0
    patient_access: bool = False


#: Reads and writes in the middle of long work.
DEFAULT_RETRY = RetryPolicy()

#: For checks at start: a wrong place should be told within seconds, not minutes.
AT_START = RetryPolicy(budget_seconds=15.0)


@dataclasses.dataclass
class ReadCounters:
    """What one reader did: bytes delivered, requests sent, retries, seconds spent waiting to retry."""

    bytes: int = 0
    requests: int = 0
    retries: int = 0
    wait_seconds: float = 0.0

    def add(self, other: ReadCounters) -> None:
        """Add the counts of ``other`` to these."""
        self.bytes += other.bytes
        self.requests += other.requests
        self.retries += other.retries
        self.wait_seconds += other.wait_seconds


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """One object below a folder: its URL, its path relative to the folder, its size in bytes."""

    url: str
    relative: str
    size: int


def is_local(url: str) -> bool:
    """Tell whether ``url`` is a plain path or ``file://`` URL."""
    return "://" not in url or url.startswith(("file://", "local://"))


def local_path(url: str) -> Path:
    """Return the path of a local URL.

    Raises:
        ValueError: ``url`` is not local.
    """
    if not is_local(url):
        raise ValueError(f"not a local path: {redact(url)}")
    return Path(url.split("://", 1)[-1]).expanduser()


def join(url: str, *names: str) -> str:
    """Append path components to a folder URL."""
    return "/".join([url.rstrip("/"), *(name.strip("/") for name in names)])


def redact(url: str) -> str:
    """Return ``url`` without user info, query or fragment: what may stand in a log."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))


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

    data = _retrying(url, attempt, retry, counters)
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

    A failure costs at most the piece under way; what has arrived is kept.

    Raises:
        StorageNotFoundError: it does not exist.
        StorageAccessError: the store refuses.
        StorageError: still failing, or still too short, after the budget.
    """
    counters = counters if counters is not None else ReadCounters()
    pieces: list[bytes] = []
    for piece_start in range(start, end, PIECE_BYTES):
        piece_end = min(end, piece_start + PIECE_BYTES)

        def attempt(fs: Any, path: str, first: int = piece_start, last: int = piece_end) -> bytes:
            counters.requests += 1
            data = bytes(fs.cat_file(path, start=first, end=last))
            if len(data) != last - first:
                raise OSError(f"{len(data)} bytes for the range {first}-{last}")
            return data

        pieces.append(_retrying(url, attempt, retry, counters))
        counters.bytes += piece_end - piece_start
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write_bytes(url: str, data: bytes, *, retry: RetryPolicy = DEFAULT_RETRY) -> None:
    """Write an object atomically: readers see the old one or the whole new one.

    Raises:
        StorageAccessError: the store refuses.
        StorageError: still failing after the budget.
    """
    if is_local(url):
        _write_local(local_path(url), data)
        return
    _retrying(url, lambda fs, path: fs.pipe_file(path, data), retry, ReadCounters())


def upload_file(path: Path, url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> None:
    """Copy a local file to ``url`` atomically (multipart uploads are completed or aborted, never half shown).

    Raises:
        StorageAccessError: the store refuses.
        StorageError: still failing after the budget.
    """
    if is_local(url):
        _publish_local(path, local_path(url))
        return
    expected = path.stat().st_size

    def attempt(fs: Any, target: str) -> None:
        fs.put_file(str(path), target)
        found = int(fs.info(target)["size"])
        if found != expected:
            raise OSError(f"uploaded {found} of {expected} bytes")

    _retrying(url, attempt, retry, ReadCounters())


def exists(url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> bool:
    """Tell whether an object or folder exists."""
    return bool(_retrying(url, lambda fs, path: fs.exists(path), retry, ReadCounters()))


def size(url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> int:
    """Return the size of an object in bytes.

    Raises:
        StorageNotFoundError: it does not exist.
    """
    return int(_retrying(url, lambda fs, path: fs.info(path)["size"], retry, ReadCounters()))


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

    return _retrying(url, attempt, retry, ReadCounters())


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

        entries = _retrying(folder_url, attempt, retry, ReadCounters())
        for entry in sorted(entries, key=lambda item: str(item["name"])):
            name = str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
            relative = f"{folder}/{name}" if folder else name
            if entry["type"] == "directory":
                pending.append(relative)
            elif not (is_local(url) and local_path(join(url, relative)).is_dir()):
                yield FileInfo(join(url, relative), relative, int(entry.get("size") or 0))


def remove(url: str, *, recursive: bool = False, retry: RetryPolicy = DEFAULT_RETRY) -> None:
    """Delete an object, or with ``recursive`` a folder; nothing happens where it does not exist."""

    def attempt(fs: Any, path: str) -> None:
        try:
            fs.rm(path, recursive=recursive)
        except FileNotFoundError:
            return

    _retrying(url, attempt, retry, ReadCounters())


def make_folder(url: str) -> None:
    """Make a local folder with its parents; object stores have no folders, so nothing happens there."""
    if is_local(url):
        local_path(url).mkdir(parents=True, exist_ok=True)


def _filesystem(url: str) -> tuple[Any, str]:
    """Return this process's file system object for ``url`` and the path in it."""
    options: dict[str, Any] = {}
    if url.startswith(("s3://", "s3a://")):
        # Retrying is done and counted here, once; other writers' objects must be seen at once.
        config = {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 1}}
        options = {"use_listings_cache": False, "config_kwargs": config}
    if is_local(url):
        url = str(local_path(url).absolute())
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise StorageAccessError(url, f"no such storage: {error}") from error
    if hasattr(fs, "retries"):
        fs.retries = 1
    return fs, str(path)


def _retrying(url: str, attempt: Callable[[Any, str], T], retry: RetryPolicy, counters: ReadCounters) -> T:
    started: float | None = None
    failures = 0
    while True:
        try:
            return attempt(*_filesystem(url))
        except StorageError:
            raise
        except Exception as error:
            kind = _classify(error)
            if kind is None:
                raise
            now = time.monotonic()
            started = now if started is None else started
            patient = kind is StorageAccessError and retry.patient_access
            hopeless = kind is not StorageError and not patient
            if hopeless or now - started >= retry.budget_seconds:
                raise kind(url, _reason(error, failures)) from error
            if kind is StorageAccessError:
                _renew_credentials()
            failures += 1
            counters.retries += 1
            ceiling = min(retry.max_delay, retry.first_delay * 2.0 ** min(failures - 1, 16))
            delay = ceiling * random.uniform(0.5, 1.0)
            counters.wait_seconds += delay
            log.warning("%s: %s; retry %d in %.1f s", redact(url), _first_line(error), failures, delay)
            time.sleep(delay)


def _classify(error: Exception) -> type[StorageError] | None:
    """Sort an exception of any backend: not found, refused, transient, or (None) not about storage at all."""
    name = type(error).__name__
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return StorageNotFoundError
    if isinstance(error, PermissionError) or name in {
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
    }:
        return StorageAccessError
    if name in {"InvalidRegionError", "UnknownEndpointError"}:
        return StorageAccessError
    module = type(error).__module__.split(".")[0]
    if isinstance(error, (OSError, TimeoutError)) or module in {
        "botocore",
        "aiobotocore",
        "aiohttp",
        "fsspec",
    }:
        return StorageError
    return None


def _renew_credentials() -> None:
    """Drop cached sessions, so that the provider chain is asked again (expired STS or IRSA tokens)."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


def _reason(error: Exception, failures: int) -> str:
    tries = f" (after {failures + 1} tries)" if failures else ""
    return f"{_first_line(error)}{tries}"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _write_local(path: Path, data: bytes) -> None:
    with _publishing(path) as file:
        file.write(data)


def _publish_local(source: Path, path: Path) -> None:
    with _publishing(path) as file, source.open("rb") as origin:
        shutil.copyfileobj(origin, file, PIECE_BYTES)


@contextlib.contextmanager
def _publishing(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file beside ``path`` that becomes ``path`` only when the block ends well.

    ``tempfile`` would make it private to its owner; a shard or checkpoint should get the usual permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
