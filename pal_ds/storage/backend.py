"""This process's file system objects: the only place that asks fsspec for one."""

from __future__ import annotations

from typing import Any

import fsspec

from pal_ds.storage.errors import StorageAccessError
from pal_ds.storage.urls import is_local, local_path

#: Seconds to connect to a store, and to wait for its next bytes.
CONNECT_SECONDS = 10
READ_SECONDS = 30


_without_keys = False


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
        if _without_keys:
            config.pop("signature_version")
            options["anon"] = True
    if is_local(url):
        url = str(local_path(url).absolute())
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise StorageAccessError(url, f"no such storage: {error}") from error
    if hasattr(fs, "retries"):
        fs.retries = 1
    return fs, str(path)


def read_without_keys() -> bool:
    """Ask S3 without signatures from now on in this process, as for public buckets; False where that is done already.

    For when the provider chain has no credentials at all: what isn't public is then refused by the store.
    """
    global _without_keys
    changed, _without_keys = not _without_keys, True
    return changed


def without_keys() -> bool:
    """Tell whether this process has found no credentials and asks S3 without any."""
    return _without_keys


def renew_credentials() -> None:
    """Drop cached sessions, so that the provider chain is asked again (expired STS or IRSA tokens)."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
