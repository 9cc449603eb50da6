"""The text file for Prometheus, read by Prometheus' own parser."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pal_ds.config import ConfigError, LogConfig
from pal_ds.training.logging.prometheus import PrometheusFile
from pal_ds.training.logging.run_log import RunLog


def read(path: Path) -> dict[tuple[str, ...], float]:
    """Value of every sample by its name and labels but ``run``, and that every line has the run."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.documentation
        for sample in family.samples:
            labels: dict[str, Any] = dict(sample.labels)
            found[(sample.name, labels.pop("run"), *labels.values())] = sample.value
    return found


def test_the_file_shows_the_latest_of_each_kind_of_row(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    log = RunLog(run, LogConfig(tensorboard=False, prometheus=str(tmp_path / "node")), step=0)
    log.status("running", 0)
    log.metrics({"step": 0, "val_loss": 5.0})
    log.metrics({"step": 1, "loss": 2.5, "batch_hash": "ab", "grad-norm": 1})
    log.event("replaced", 1)
    log.event("replaced", 1)
    log.metrics({"step": 2, "loss": None, "lr": math.nan, "grad-norm": 3})
    log.close()
    log.status("done", 2)
    found = read(tmp_path / "node" / "pal_run.prom")
    assert found[("pal_val_loss", run)] == 5.0
    assert found[("pal_grad_norm", run)] == 3
    assert found[("pal_step", run)] == 2
    assert found[("pal_events_total", run, "replaced")] == 2
    states = {key[2]: value for key, value in found.items() if key[0] == "pal_run_state"}
    assert states == {"running": 0, "preempted": 0, "failed": 0, "done": 1}
    assert found[("pal_last_row_timestamp_seconds", run)] > 1.7e9
    assert not {"pal_loss", "pal_lr", "pal_batch_hash"} & {key[0] for key in found}


def test_a_file_is_taken_by_its_name_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = PrometheusFile(str(tmp_path / "x.prom"), "s3://key:secret@bucket/runs/a b")
    file.row({"step": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]
    assert read(tmp_path / "x.prom")[("pal_step", "s3://bucket/runs/a b")] == 1
    assert PrometheusFile(str(tmp_path), "s3://bucket/runs/a b/").path.name == "pal_a_b.prom"
    assert (tmp_path / "x.prom").stat().st_mode & 0o777 == 0o644


def test_a_label_may_hold_anything(tmp_path: Path) -> None:
    run = 'a"b\\c\nd'
    file = PrometheusFile(str(tmp_path / "x.prom"), run)
    file.row({"step": 1})
    assert ("pal_step", run) in read(tmp_path / "x.prom")


def test_a_place_that_can_not_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    file = PrometheusFile(str(tmp_path / "file" / "x.prom"), "/run")
    with caplog.at_level(logging.WARNING):
        file.row({"step": 1})
        file.row({"step": 2})
    assert caplog.text.count("training goes on") == 1


def test_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"log\.prometheus .* collectors read local files"):
        LogConfig(prometheus="s3://bucket/metrics")
