"""This process's file system objects: the only place that asks fsspec for one."""

from __future__ import annotations

from typing import Any

import fsspec

from pal_ds.storage.errors import StorageAccessError
from pal_ds.storage.urls import is_local, local_path

#: Seconds to connect to a store, and to wait for its next bytes.
CONNECT_SECONDS = 10
READ_SECONDS = 30


def is_s3(url: str) -> bool:
    """Tell whether ``url`` lies in an S3-compatible store."""
    return url.startswith(("s3://", "s3a://"))


def filesystem(url: str) -> tuple[Any, str]:
    """Return this process's file system object for ``url`` and the path in it.

    Raises:
        StorageAccessError: there is no back end for such a URL.
    """
    options: dict[str, Any] = {}
    if is_s3(url):
        # Retrying is done and counted here, once; other writers' objects must be seen at once.
        config = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1},
            # Headers are signed so in any case; URLs would be signed by the old scheme, which few stores know.
            "signature_version": "s3v4",
        }
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


def renew_credentials() -> None:
    """Drop cached sessions, so that the provider chain is asked again (expired STS or IRSA tokens)."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
