"""What a run writes while it trains: metrics, events, TensorBoard, status (docs/formats.md, "Run folder").

On a local run folder rows are flushed as they are written. On an object store they are spooled in a small local
folder and uploaded whole, in the background every ``log.upload_seconds`` and at each checkpoint. Rank 0 only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.config import LogConfig
from pal_ds.storage import RetryPolicy
from pal_ds.training.logging.mlflow_log import MlflowLog
from pal_ds.training.logging.prometheus import PrometheusFile
from pal_ds.training.logging.wandb_log import WandbLog
from pal_ds.training.logging.webhook import Webhook

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
STATUS = "STATUS.json"
_LIFECYCLE = frozenset({"start", "resume", "preempted", "failed", "done"})
_UPLOAD = RetryPolicy(budget_seconds=20.0, patient_access=True)


class RunLog:
    """The log files of one run.

    Args:
        config: intervals, TensorBoard, Weights & Biases, Prometheus, webhook.
        step: the step a run starts or resumes at: rows past it are dropped, so that each step appears once.
        settings: the whole config, shown at Weights & Biases and MLflow without credentials of URLs.

    Attributes:
        untrained: the validation row of step 0 that an earlier start wrote; None where there is none.
    """

    def __init__(
        self, run_url: str, config: LogConfig, *, step: int, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._run_url = run_url
        self._config = config
        self._local = storage.is_local(run_url)
        self._folder = (
            storage.local_path(run_url) if self._local else Path(tempfile.mkdtemp(prefix="pal-logs-"))
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        # Of its own, so that a last word needn't wait for all files under way, and no earlier one comes after it.
        self._status_lock = threading.Lock()
        self._full = False
        self._uploaded: dict[str, tuple[int, float]] = {}
        self._progress: dict[str, Any] | None = None
        # A start at step 0 validates at step 0 anew, so no earlier row of it stays.
        kept = self._reopen(METRICS, lambda row: step > 0 and row.get("step", 0) <= step)
        self.untrained = next((row for row in kept if row.get("step") == 0 and "val_loss" in row), None)
        self._reopen(EVENTS, lambda row: row.get("event") in _LIFECYCLE or row.get("step", 0) <= step)
        self._files = {name: (self._folder / name).open("a", buffering=1) for name in (METRICS, EVENTS)}
        self._writer: Any = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # An event file can't be appended to on an object store: every start writes its own, and the purge
            # step makes TensorBoard forget what a resumed run does again.
            folder = str(self._folder / "tensorboard")
            self._writer = SummaryWriter(folder, purge_step=step + 1 if step else None)
        shown = _redacted(settings or {})
        self._wandb: WandbLog | None = None
        if config.wandb:
            self._wandb = WandbLog(config.wandb, run_url, self._folder, shown)
        self._mlflow = MlflowLog(config.mlflow, run_url, shown) if config.mlflow else None
        self._prometheus = PrometheusFile(config.prometheus, run_url) if config.prometheus else None
        self._webhook = Webhook(config.webhook, run_url) if config.webhook else None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if not self._local:
            self._thread = threading.Thread(target=self._upload_regularly, name="log-upload", daemon=True)
            self._thread.start()

    def metrics(self, row: dict[str, Any]) -> None:
        """Append a row to ``metrics.jsonl`` and its numbers to TensorBoard; NaN and Inf become null."""
        self._append(METRICS, row)
        if self._writer is not None:
            self._scalars(row)
        if self._wandb is not None:
            self._wandb.row(row)
        if self._mlflow is not None:
            self._mlflow.row(row)
        if self._prometheus is not None:
            self._prometheus.row(row)

    def event(self, event: str, step: int, **details: Any) -> None:
        """Append a row to ``events.jsonl``."""
        if self._prometheus is not None:
            self._prometheus.event(event)
        self._append(EVENTS, {"event": event, "step": step, "time": round(time.time(), 3), **details})

    def status(self, state: str, step: int, **details: Any) -> None:
        """Replace ``STATUS.json``; a store that is away is a warning, the run's own error says more."""
        with self._status_lock:
            self._progress = None
            self._write_status({"state": state, "step": step, **details})
        if self._prometheus is not None:
            self._prometheus.state(state, step)
        if self._mlflow is not None:
            self._mlflow.state(state)
        if self._webhook is not None:
            self._webhook.state(state, step, error=str(details.get("error", "")))

    def progress(self, step: int) -> None:
        """Say ``running`` in ``STATUS.json``; to an object store with the next upload: training does not wait."""
        document = {"state": "running", "step": step}
        if self._local:
            self._write_status(document)
        else:
            self._progress = document

    def upload(self) -> None:
        """Bring the spooled files to the object store; nothing to do for a local run folder.

        Where one fails the others are left for the next time: each would wait for as long.
        """
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.flush()
        if self._local:
            return
        with self._lock:
            files = [path for path in sorted(self._folder.rglob("*")) if path.is_file()]
            if not all(self._upload_one(path) for path in files):
                return
            with self._status_lock:
                document, self._progress = self._progress, None
                if document is not None:
                    self._write_status(document)

    def close(self) -> None:
        """Write and upload what is left, and remove the spool."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=_UPLOAD.budget_seconds)
        try:
            if self._writer is not None:
                self._writer.close()
            for file in self._files.values():
                file.close()
        except OSError as error:
            log.warning("the last log rows are lost: %s", error)
        self._writer = None
        if self._wandb is not None:
            self._wandb.close()
        if self._mlflow is not None:
            self._mlflow.close()
        self.upload()
        if not self._local:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        try:
            self._files[name].write(json.dumps(clean) + "\n")
            self._full = False
        except OSError as error:  # a full disk: the row stays in the buffer and is written with a later one
            if not self._full:
                log.warning("%s not written: %s; training goes on", name, error)
            self._full = True

    def _scalars(self, row: dict[str, Any]) -> None:
        try:
            for name, value in row.items():
                if isinstance(value, (int, float)) and name != "step" and math.isfinite(value):
                    self._writer.add_scalar(name, value, row["step"])
        except OSError as error:
            log.warning(
                "TensorBoard's file can't be written (%s): it gets no more rows until the next start", error
            )
            self._writer = None

    def _reopen(self, name: str, keep: Any) -> list[dict[str, Any]]:
        """Start from what an earlier start wrote, less the rows that will be written again; return what is kept."""
        url = storage.join(self._run_url, name)
        try:
            data = storage.read_bytes(url, retry=storage.AT_START)
        except storage.StorageNotFoundError:
            return []
        lines: list[str] = []
        rows: list[dict[str, Any]] = []
        for line in data.decode(errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a run that was killed while writing it
                continue
            if keep(row):
                lines.append(line)
                rows.append(row)
        storage.write_bytes(str(self._folder / name), "".join(f"{line}\n" for line in lines).encode())
        return rows

    def _upload_regularly(self) -> None:
        while not self._stop.wait(self._config.upload_seconds):
            self.upload()

    def _write_status(self, document: Mapping[str, Any]) -> None:
        url = storage.join(self._run_url, STATUS)
        try:
            storage.write_bytes(url, (json.dumps(document) + "\n").encode(), retry=_UPLOAD)
        except (storage.StorageError, OSError) as error:
            log.warning("status not written: %s", error)

    def _upload_one(self, path: Path) -> bool:
        """Upload a file that has changed; return whether it is there."""
        name = path.relative_to(self._folder).as_posix()
        stat = path.stat()
        seen = (stat.st_size, stat.st_mtime)
        if self._uploaded.get(name) == seen:
            return True
        try:
            storage.write_bytes(storage.join(self._run_url, name), path.read_bytes(), retry=_UPLOAD)
        except (storage.StorageError, OSError) as error:
            log.warning("log not uploaded: %s", error)
            return False
        self._uploaded[name] = seen
        return True


def _redacted(tree: Any) -> Any:
    """Return a tree whose texts have no credentials of URLs: what may be shown to others."""
    if isinstance(tree, Mapping):
        return {name: _redacted(each) for name, each in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_redacted(each) for each in tree]
    return storage.redact(tree) if isinstance(tree, str) else tree
