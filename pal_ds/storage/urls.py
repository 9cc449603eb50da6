"""Places named by URL; a plain path is ``file://``."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit


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


def redact(url: str) -> str:
    """Return ``url`` without user info, query or fragment: what may stand in a log."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))
