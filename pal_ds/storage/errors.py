"""How storage fails, and errors of libraries in one line."""

from __future__ import annotations

from pal_ds.storage.urls import is_read_only, redact


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


def first_line(error: BaseException, *, most: int | None = None) -> str:
    """Return an error's type and the first line of its message that is not blank; its type alone without one.

    Args:
        error: the error, usually another library's.
        most: characters of that line; None for all of them.
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip()[:most]}" if lines else type(error).__name__


def check_writable(url: str) -> None:
    """Refuse a place that is only read.

    Raises:
        StorageAccessError: it is one.
    """
    if is_read_only(url):
        raise StorageAccessError(
            url, "is read, not written: write to another place and upload that (hf upload)"
        )
