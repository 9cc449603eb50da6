"""Saving in the background: training goes on while rank 0 uploads; failed uploads are retried for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pal_ds import storage
from pal_ds.config import CheckpointConfig
from pal_ds.formats import checkpoint
from pal_ds.formats.checkpoint import Snapshot
from pal_ds.storage import RetryPolicy

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0


class Saver:
    """Writes snapshots one at a time, in a thread where the config says so (rank 0 only).

    A save that fails is tried again until ``save_patience_minutes`` have passed since the first failure; training
    goes on meanwhile, and a newer snapshot replaces one that is still failing (docs/design.md, "Failures and
    signals").

    Args:
        run_url: the run folder.
        config: when and how.
        on_commit: called with (step, bytes, seconds) after each commit, in the saving thread.
        retry: budget of each single write.
        pause: seconds between two attempts at a failing save.

    Attributes:
        last_committed: step of the newest checkpoint that this saver has committed; None before the first.
    """

    def __init__(
        self,
        run_url: str,
        config: CheckpointConfig,
        on_commit: Callable[[int, int, float], None],
        *,
        retry: RetryPolicy = RetryPolicy(budget_seconds=30.0, patient_access=True),
        pause: float = _PAUSE_SECONDS,
    ) -> None:
        self._run_url = run_url
        self._config = config
        self._on_commit = on_commit
        self._retry = retry
        self._pause = pause
        self._lock = threading.Condition()
        self._unsaved: Snapshot | None = None
        self._due = False
        self._busy = False
        self._closed = False
        self._failing_since: float | None = None
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self.last_committed: int | None = None

    def submit(self, snapshot: Snapshot) -> None:
        """Save a snapshot: at once, or in the background."""
        with self._lock:
            self._unsaved, self._due = snapshot, True
            if self._config.asynchronous:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="checkpoint-saver", daemon=True)
                    self._thread.start()
                self._lock.notify_all()
        if not self._config.asynchronous:
            self._attempt(snapshot)

    def wait(self) -> None:
        """Wait until the latest snapshot has been attempted."""
        with self._lock:
            self._lock.wait_for(lambda: not self._busy and not self._due)

    def finish(self, snapshot: Snapshot | None = None) -> None:
        """End the thread after what it is doing, then try once more what is latest and not yet committed.

        Nothing can be submitted afterwards; a second call finds nothing to do.

        Args:
            snapshot: the run's last state, where it was not submitted.

        Raises:
            StorageError: the last attempt failed.
            OSError: the same on a local disk.
        """
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join()
        latest, self._unsaved = snapshot or self._unsaved, None
        if latest is not None:
            self._write(latest)

    @property
    def out_of_patience(self) -> Exception | None:
        """The error that has kept saves failing for longer than the patience, if any."""
        since, error = self._failing_since, self._error
        if since is None or time.monotonic() - since < 60.0 * self._config.save_patience_minutes:
            return None
        return error

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._due or self._closed)
                if self._closed or self._unsaved is None:
                    return
                snapshot, self._due, self._busy = self._unsaved, False, True
            succeeded = self._attempt(snapshot)
            with self._lock:
                self._busy = False
                self._lock.notify_all()
                if not succeeded:
                    self._lock.wait_for(lambda: self._due or self._closed, timeout=self._pause)
                    self._due = True

    def _attempt(self, snapshot: Snapshot) -> bool:
        try:
            self._write(snapshot)
        except (storage.StorageError, OSError) as error:
            self._error = error
            self._failing_since = self._failing_since or time.monotonic()
            log.warning("checkpoint of step %d not saved: %s; training goes on", snapshot.step, error)
            return False
        self._failing_since = None
        return True

    def _write(self, snapshot: Snapshot) -> None:
        started = time.monotonic()
        size = checkpoint.save(self._run_url, snapshot, retry=self._retry)
        self.last_committed = snapshot.step
        with self._lock:
            if self._unsaved is snapshot:
                self._unsaved = None
        self._on_commit(snapshot.step, size, time.monotonic() - started)
        try:
            checkpoint.prune(
                self._run_url,
                keep_last=self._config.keep_last,
                keep_every=self._config.keep_every,
                retry=self._retry,
            )
        except (storage.StorageError, OSError) as error:
            log.warning("old checkpoints not removed: %s", error)
