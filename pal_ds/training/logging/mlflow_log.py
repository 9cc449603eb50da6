"""Rows to MLflow, where asked for: one run there for all starts, and never a reason to stop or to wait.

The server is what ``MLFLOW_TRACKING_URI`` names, where rank 0 runs. A thread talks to it, so a slow server delays
nothing; rows that it doesn't take are told in a warning and stay in ``metrics.jsonl``.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import os
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pal_ds import storage
from pal_ds.config import ConfigError

log = logging.getLogger(__name__)

#: Object in the run folder that holds the run's id there, so that a resume goes on with the same curves.
RUN_ID = "mlflow_id.txt"
#: The server's variable, and what limits its client to a few seconds a call; set by the user, they stay.
_SERVER = "MLFLOW_TRACKING_URI"
_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
#: So many rows wait for a slow server before further ones are left out.
MOST_WAITING = 1000
#: The end of a run waits so long for the rows that are still under way.
LIMIT_SECONDS = 20.0
#: MLflow's names of a run's states; a run that is stopped goes on in its next start.
_STATES = {"done": "FINISHED", "failed": "FAILED", "preempted": "KILLED"}
_MOST_PARAMETERS, _LONGEST = 100, 500
_USER_INFO = re.compile(r"//[^/\s]*@")


def check_mlflow(experiment: str) -> None:
    """Refuse ``log.mlflow`` where it can't work; an empty name is off.

    Raises:
        ConfigError: the package is missing, or no server is named.
    """
    if experiment and importlib.util.find_spec("mlflow") is None:
        raise ConfigError("log.mlflow", experiment, "needs a package: pip install mlflow-skinny")
    if experiment and not os.environ.get(_SERVER):
        raise ConfigError("log.mlflow", experiment, f"needs a server: set {_SERVER} where rank 0 runs")


class MlflowLog:
    """One run at an MLflow server.

    Args:
        experiment: its experiment; made where there is none.
        run_url: the run folder; its name is the run's name.
        config: the resolved config, without credentials; the run's parameters, as ``section.key``.
    """

    def __init__(self, experiment: str, run_url: str, config: Mapping[str, Any]) -> None:
        self._experiment, self._url, self._config = experiment, run_url, config
        self._client: Any = None
        self._id = ""
        self._state = "preempted"
        self._lost = 0
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def row(self, row: Mapping[str, Any]) -> None:
        """Log a row's finite numbers at its step, as soon as the server takes them."""
        try:
            self._waiting.put_nowait({**row, "_time": time.time()})
        except queue.Full:
            self._lose("the server is too slow")

    def state(self, state: str) -> None:
        """Keep the run's state for its end there."""
        self._state = state

    def close(self) -> None:
        """Bring up what is left, a little while at most, and end the run there."""
        try:
            self._waiting.put(None, timeout=LIMIT_SECONDS)
        except queue.Full:
            self._lose("the server is too slow")
        self._thread.join(LIMIT_SECONDS)
        if self._thread.is_alive():
            log.warning("MLflow: rows of the last steps may be missing there; metrics.jsonl has all")
        if self._lost:
            log.warning("MLflow: %d rows are missing there; metrics.jsonl has all", self._lost)

    def _work(self) -> None:
        while True:
            row = self._waiting.get()
            try:
                self._open()
                if row is None:
                    self._client.set_terminated(self._id, _STATES.get(self._state, "KILLED"))
                    return
                self._send(row)
            except Exception as error:  # whatever a server can do wrong, the run goes on
                if row is None:
                    return
                # A client's message may quote the server's address with the password in it.
                self._lose(_USER_INFO.sub("//", " ".join(str(error).split()))[:300])

    def _lose(self, why: str) -> None:
        self._lost += 1
        if self._lost == 1:
            log.warning("MLflow: a row was not logged: %s", why)

    def _send(self, row: Mapping[str, Any]) -> None:
        entities: Any = importlib.import_module("mlflow.entities")
        milliseconds, step = int(row["_time"] * 1000), int(row["step"])
        metrics = [
            entities.Metric(name, float(value), milliseconds, step)
            for name, value in row.items()
            if isinstance(value, (int, float)) and name not in {"step", "_time"} and math.isfinite(value)
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def _open(self) -> None:
        """Find the run of earlier starts or make one; called again until it has worked."""
        if self._client is not None:
            return
        for name, value in _LIMITS.items():
            os.environ.setdefault(name, value)
        mlflow: Any = importlib.import_module("mlflow")
        client = mlflow.MlflowClient()
        url = storage.join(self._url, RUN_ID)
        try:
            self._id = storage.read_bytes(url, retry=storage.AT_START).decode().strip()
            client.update_run(self._id, status="RUNNING")
        except storage.StorageNotFoundError:
            found = client.get_experiment_by_name(self._experiment)
            experiment = found.experiment_id if found else client.create_experiment(self._experiment)
            name = self._url.rstrip("/").rsplit("/", 1)[-1]
            self._id = client.create_run(experiment, run_name=name).info.run_id
            storage.write_bytes(url, self._id.encode() + b"\n", retry=storage.AT_START)
            self._send_parameters(client)
        self._client = client

    def _send_parameters(self, client: Any) -> None:
        entities: Any = importlib.import_module("mlflow.entities")
        pairs = [entities.Param(name, str(value)[:_LONGEST]) for name, value in _flat(self._config)]
        for first in range(0, len(pairs), _MOST_PARAMETERS):
            client.log_batch(self._id, params=pairs[first : first + _MOST_PARAMETERS])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
