"""MLflow: one run over all starts; a server that is away stops and delays nothing.

Where mlflow is installed its own file store is the server; the rest goes through a client that is made here.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from pal_ds.config import ConfigError, LogConfig
from pal_ds.training.logging import mlflow_log
from pal_ds.training.logging.mlflow_log import MlflowLog, check_mlflow
from pal_ds.training.logging.run_log import RunLog

SETTINGS = {
    "model": {"width": 0.25},
    "data": {"shards": "s3://key:secret@bucket/set", "list": [{"url": "s3://key:secret@bucket/set"}]},
}


class Server:
    """What a server keeps, and the client that reaches it."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, str] = {}
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()

    def module(self) -> dict[str, Any]:
        mlflow, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
        mlflow.MlflowClient = lambda: self  # type: ignore[attr-defined]  # a module made here
        entities.Metric = lambda *given: given  # type: ignore[attr-defined]  # a module made here
        entities.Param = lambda *given: given  # type: ignore[attr-defined]  # a module made here
        return {"mlflow": mlflow, "mlflow.entities": entities}

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return types.SimpleNamespace(experiment_id=found) if found else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"e-{name}")

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.runs["r1"] = {
            "experiment": experiment,
            "name": run_name,
            "metrics": [],
            "params": {},
            "state": "RUNNING",
        }
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def update_run(self, run: str, status: str) -> None:
        self.runs[run]["state"] = status

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        self.gate.wait(30)
        if self.broken:
            raise ConnectionError("no route to http://me:secret@host/api")
        assert len(params) <= 100
        self.runs[run]["metrics"] += metrics
        self.runs[run]["params"].update(params)

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run]["state"] = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    for name, module in made.module().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return made


def start(run: Path, step: int, state: str) -> None:
    log = RunLog(str(run), LogConfig(tensorboard=False, mlflow="pal"), step=step, settings=SETTINGS)
    log.metrics({"step": step + 1, "loss": 0.5, "nothing": float("nan"), "batch_hash": "ab"})
    log.status(state, step + 1)
    log.close()


def test_a_run_is_one_run_over_its_starts(tmp_path: Path, server: Server):
    start(tmp_path / "run", 0, "preempted")
    (found,) = server.runs.values()
    assert found["state"] == "KILLED"
    start(tmp_path / "run", 1, "done")
    (found,) = server.runs.values()
    assert (found["state"], found["name"], found["experiment"]) == ("FINISHED", "run", "e-pal")
    assert [(name, value, step) for name, value, _, step in found["metrics"]] == [
        ("loss", 0.5, 1),
        ("loss", 0.5, 2),
    ]
    assert found["params"]["model.width"] == "0.25"
    assert "bucket/set" in found["params"]["data.list"]
    assert "secret" not in str(found["params"])
    assert (tmp_path / "run/mlflow_id.txt").read_text() == "r1\n"


def test_a_server_that_is_away_is_a_warning(tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture):
    server.broken = True
    with caplog.at_level(logging.WARNING):
        start(tmp_path / "run", 0, "done")
    assert "a row was not logged: no route to http://host/api" in caplog.text
    assert "secret" not in caplog.text
    assert "1 rows are missing there" in caplog.text
    assert '"loss": 0.5' in (tmp_path / "run/metrics.jsonl").read_text()


def test_a_server_that_hangs_delays_nothing_and_its_queue_is_bounded(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mlflow_log, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(mlflow_log, "MOST_WAITING", 3)
    server.gate.clear()
    log = MlflowLog("pal", str(tmp_path), {"a": 1})
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for step in range(50):
            log.row({"step": step, "loss": 1.0})
        log.close()
    assert time.monotonic() - begun < 10  # far below the 30 s for which the server holds the first call
    assert "the server is too slow" in caplog.text
    assert "may be missing there" in caplog.text
    server.gate.set()


def test_what_can_not_work_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch):
    check_mlflow("")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="mlflow-skinny"):
        check_mlflow("pal")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        check_mlflow("pal")


def test_mlflow_itself_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow-skinny to test it")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    start(tmp_path / "run", 0, "preempted")
    start(tmp_path / "run", 1, "done")
    client = mlflow.MlflowClient()
    name = (tmp_path / "run/mlflow_id.txt").read_text().strip()
    found = client.get_run(name)
    assert (found.info.status, found.data.params["model.width"]) == ("FINISHED", "0.25")
    assert [entry.step for entry in client.get_metric_history(name, "loss")] == [1, 2]
