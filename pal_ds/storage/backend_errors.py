"""What an exception of some store's library means: not there, refused, or worth another try."""

from __future__ import annotations

from typing import Any

from pal_ds.storage.errors import StorageAccessError, StorageError, StorageNotFoundError

_REFUSED = frozenset({401, 403, 407})
#: Names of exceptions that say no, whatever is tried again: wrong or missing credentials, no right, no such endpoint.
_REFUSING = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"),
        *("InvalidRegionError", "UnknownEndpointError"),
        *("DefaultCredentialsError", "RefreshError", "ClientAuthenticationError"),
        # Hubs tell those who may not know that there is no such repository.
        *("GatedRepoError", "LocalTokenNotFoundError", "RepositoryNotFoundError"),
    }
)
_MISSING = frozenset({"ResourceNotFoundError", "RevisionNotFoundError", "EntryNotFoundError"})
#: Libraries whose other exceptions are failures of the store or of the way to it.
_LIBRARIES = frozenset(
    {
        *("botocore", "aiobotocore", "aiohttp", "fsspec", "azure", "adlfs", "google", "gcsfs"),
        *("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"),
    }
)


def classify(error: Exception) -> type[StorageError] | None:
    """Sort an exception of any back end: not found, refused, transient, or (None) not about storage at all."""
    names = {kind.__name__ for each in (error, error.__cause__) for kind in type(each).__mro__}
    status = _status(error)
    if names & _REFUSING or isinstance(error, PermissionError) or status in _REFUSED:
        return StorageAccessError
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) or names & _MISSING or status == 404:
        return StorageNotFoundError
    if isinstance(error, OSError) and str(error).startswith("Forbidden: "):
        # What gcsfs makes of a 403.
        return StorageAccessError
    module = type(error).__module__.split(".")[0]
    if isinstance(error, (OSError, TimeoutError)) or module in _LIBRARIES:
        return StorageError
    return None


def _status(error: Exception) -> int | None:
    """Return the HTTP status that a library's exception carries, if any."""
    answer: Any = getattr(error, "response", None)
    for holder, name in ((answer, "status_code"), (error, "status_code"), (error, "code"), (error, "status")):
        value = getattr(holder, name, None)
        if isinstance(value, int):
            return value
    return None
