"""Places named by URL; a plain path is ``file://``."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

#: Second names of stores' schemes.
_ONE_STORE = {"s3a": "s3", "gcs": "gs"}


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


def is_read_only(url: str) -> bool:
    """Tell whether a place is only ever read: on the Hugging Face Hub every write would be a commit."""
    return url.startswith("hf://")


def join(url: str, *names: str) -> str:
    """Append path components to a folder URL."""
    return "/".join([url.rstrip("/"), *(name.strip("/") for name in names)])


def absolute(url: str) -> str:
    """Return a place that means the same in every process: local ones as absolute paths, others as they are."""
    return str(local_path(url).absolute()) if is_local(url) else url


def resolved(url: str) -> str:
    """Return one spelling of a place for all that lead there: links, ``..``, slashes and schemes; to compare only."""
    if is_local(url):
        return str(local_path(url).resolve())
    scheme, _, rest = url.partition("://")
    parts = [part for part in rest.split("/") if part not in ("", ".")]
    return "/".join([f"{_ONE_STORE.get(scheme, scheme)}:/", *parts])


def redact(url: str) -> str:
    """Return ``url`` without user info, query or fragment: what may stand in a log."""
    if "::" in url and "://" in url:
        # fsspec's chains of places: each has its own.
        return "::".join(redact(part) for part in url.split("::"))
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))
