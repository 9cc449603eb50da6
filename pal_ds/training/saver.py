"""Saving in the background: training goes on while rank 0 uploads, and a full bucket is borne for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pal_ds import storage
from pal_ds.config import CheckpointConfig
from pal_ds.storage import RetryPolicy
from pal_ds.training import checkpoint
from pal_ds.training.checkpoint import Snapshot

log = logging.getLogger(__name__)


class Saver:
    """Writes snapshots one at a time, in a thread where the config says so (rank 0 only).

    A save that fails is tried again until ``save_patience_minutes`` have passed since the last good one; training
    goes on meanwhile, and a newer snapshot replaces one that is still failing (DESIGN.md §5).

    Args:
        run_url: the run folder.
        config: when and how.
        on_commit: called with (step, bytes, seconds) after each commit, in the saving thread.
        retry: budget of each single write.
    """

    def __init__(
        self,
        run_url: str,
        config: CheckpointConfig,
        on_commit: Callable[[int, int, float], None],
        *,
        retry: RetryPolicy = RetryPolicy(budget_seconds=30.0, patient_access=True),
    ) -> None:
        self._run_url = run_url
        self._config = config
        self._on_commit = on_commit
        self._retry = retry
        self._lock = threading.Condition()
        self._pending: Snapshot | None = None
        self._busy = False
        self._closed = False
        self._failing_since: float | None = None
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self.last_committed: int | None = None

    def submit(self, snapshot: Snapshot) -> None:
        """Save a snapshot: at once, or in the background."""
        if not self._config.asynchronous:
            self._attempt(snapshot)
            return
        with self._lock:
            self._pending = snapshot
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint-saver", daemon=True)
                self._thread.start()
            self._lock.notify_all()

    def save_now(self, snapshot: Snapshot) -> None:
        """Save and wait, after what is under way; raises what the save raises."""
        with self._lock:
            self._pending = None
        self.wait()
        self._write(snapshot)

    def wait(self) -> None:
        """Wait until nothing is pending or under way."""
        with self._lock:
            self._lock.wait_for(lambda: self._pending is None and not self._busy)

    def close(self) -> None:
        """Finish what is pending and stop the thread."""
        self.wait()
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join()

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
                self._lock.wait_for(lambda: self._pending is not None or self._closed)
                if self._pending is None:
                    return
                snapshot, self._pending, self._busy = self._pending, None, True
            succeeded = self._attempt(snapshot)
            with self._lock:
                if (
                    not succeeded
                    and self._pending is None
                    and not self._closed
                    and self.out_of_patience is None
                ):
                    self._pending = snapshot
                self._busy = False
                self._lock.notify_all()
            if not succeeded:
                time.sleep(5.0)

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
