"""Object storage by URL: the only package that touches fsspec.

Every place a user names is a URL; a plain path is ``file://``. Reads are whole ranges,
retried with jittered backoff from the last good piece within a budget of minutes; writes publish a whole
object or nothing.

A file system object is made lazily in each process and is never kept by callers, so that everything here
works with ``fork``, ``spawn`` and ``forkserver`` (s3fs refuses to be used across a fork).
"""

from __future__ import annotations

from pal_ds.storage.backend import read_environment
from pal_ds.storage.errors import StorageAccessError, StorageError, StorageNotFoundError, check_writable
from pal_ds.storage.objects import (
    PIECE_BYTES,
    FileInfo,
    bucket_exists,
    exists,
    iter_files,
    list_names,
    make_folder,
    read_bytes,
    read_range,
    remove,
    remove_names,
    size,
    write_bytes,
)
from pal_ds.storage.retry import AT_START, DEFAULT_RETRY, ReadCounters, RetryPolicy
from pal_ds.storage.uploads import abort_uploads, upload_file
from pal_ds.storage.urls import absolute, is_local, join, local_path, redact, resolved

__all__ = [
    "AT_START",
    "DEFAULT_RETRY",
    "PIECE_BYTES",
    "FileInfo",
    "ReadCounters",
    "RetryPolicy",
    "StorageAccessError",
    "StorageError",
    "StorageNotFoundError",
    "abort_uploads",
    "absolute",
    "bucket_exists",
    "check_writable",
    "exists",
    "is_local",
    "iter_files",
    "join",
    "list_names",
    "local_path",
    "make_folder",
    "read_bytes",
    "read_environment",
    "read_range",
    "redact",
    "remove",
    "remove_names",
    "resolved",
    "size",
    "upload_file",
    "write_bytes",
]
