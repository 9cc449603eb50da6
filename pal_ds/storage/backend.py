"""This process's file system objects: the only place that asks fsspec for one."""

from __future__ import annotations

from typing import Any

import fsspec

from pal_ds.storage.errors import StorageAccessError
from pal_ds.storage.urls import is_local, local_path

#: Seconds to connect to a store, and to wait for its next bytes.
CONNECT_SECONDS = 10
READ_SECONDS = 30


#: The extra that brings a store's library, by scheme.
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "hf": "hub"}
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
        if _without_keys or fsspec.config.conf.get("s3", {}).get("anon"):
            config.pop("signature_version")
            options["anon"] = True
    elif not is_local(url):
        # Other writers' objects must be seen at once here too.
        options = {"use_listings_cache": False}
        if _EXTRAS.get(url.partition("://")[0]) == "azure":
            # Else adlfs asks for it first, and warns on stderr where it may not.
            options["assume_container_exists"] = True
    if is_local(url):
        url = str(local_path(url).absolute())
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise StorageAccessError(url, f"no such storage: {error}{_extra_for(url)}") from error
    except ValueError as error:
        raise StorageAccessError(url, f"no such storage: {error}") from error
    if hasattr(fs, "retries"):
        fs.retries = 1
    return fs, str(path)


def _extra_for(url: str) -> str:
    """Return how to get the library of a URL's store, where an extra brings it."""
    extra = _EXTRAS.get(url.partition("://")[0])
    return f" (pip install 'pal-ds[{extra}]')" if extra else ""


def read_environment() -> None:
    """Take over ``FSSPEC_…`` variables that were set after this process had imported fsspec."""
    fsspec.config.set_conf_env(fsspec.config.conf)


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
