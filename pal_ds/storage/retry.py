"""Tries again what a store failed at, within a budget of time (docs/design.md, "Failures and signals")."""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pal_ds.storage.backend import filesystem, read_without_keys, renew_credentials, without_keys
from pal_ds.storage.backend_errors import classify
from pal_ds.storage.errors import StorageAccessError, StorageError, first_line
from pal_ds.storage.urls import redact

T = TypeVar("T")
log = logging.getLogger("pal_ds.storage")
#: Sessions are renewed after so many failures in a row, whatever they look like.
_RENEW_EVERY = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long a broken read or write is tried again.

    Attributes:
        budget_seconds: time from the first failure after which the error is raised.
        first_delay: upper bound of the first wait, in seconds; doubles with every failure.
        max_delay: upper bound of any wait, in seconds.
        patient_access: retry refusals (403) too, with renewed credentials; for the middle of a run, where an
            expired token is likelier than a wrong one (docs/design.md, "Failures and signals").
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
    """What one reader did: bytes delivered, requests sent, retries, seconds spent waiting to retry.

    ``cached_bytes`` came from a local cache, and are no part of ``bytes``.
    """

    bytes: int = 0
    requests: int = 0
    retries: int = 0
    wait_seconds: float = 0.0
    cached_bytes: int = 0

    def add(self, other: ReadCounters) -> None:
        """Add the counts of ``other`` to these."""
        self.bytes += other.bytes
        self.requests += other.requests
        self.retries += other.retries
        self.wait_seconds += other.wait_seconds
        self.cached_bytes += other.cached_bytes


def retrying(url: str, attempt: Callable[[Any, str], T], retry: RetryPolicy, counters: ReadCounters) -> T:
    """Call ``attempt(file system, path in it)`` until it returns or the budget is used up.

    Raises:
        StorageNotFoundError: the object does not exist.
        StorageAccessError: the store refuses.
        StorageError: still failing after the budget.
    """
    started: float | None = None
    failures = 0
    while True:
        try:
            return attempt(*filesystem(url))
        except StorageError:
            raise
        except Exception as error:
            if type(error).__name__ == "NoCredentialsError" and read_without_keys():
                continue
            kind = classify(error)
            if kind is None:
                raise
            now = time.monotonic()
            started = now if started is None else started
            patient = kind is StorageAccessError and retry.patient_access
            hopeless = kind is not StorageError and not patient
            if hopeless or now - started >= retry.budget_seconds:
                raise kind(url, _reason(error, failures)) from error
            failures += 1
            # A refusal may come in disguise (a proxy that gives a HEAD a body), and a session may have gone bad.
            if kind is StorageAccessError or failures % _RENEW_EVERY == 0:
                renew_credentials()
            counters.retries += 1
            ceiling = min(retry.max_delay, retry.first_delay * 2.0 ** min(failures - 1, 16))
            delay = ceiling * random.uniform(0.5, 1.0)
            counters.wait_seconds += delay
            log.warning("%s: %s; retry %d in %.1f s", redact(url), first_line(error), failures, delay)
            time.sleep(delay)


def _reason(error: Exception, failures: int) -> str:
    tries = f" (after {failures + 1} tries)" if failures else ""
    keyless = " (asked without keys, as none were found)" if without_keys() else ""
    return f"{first_line(error)}{tries}{keyless}"
