"""The run's log files: rows appear once after a resume, on disk and on S3."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from pal_ds import storage
from pal_ds.config import LogConfig
from pal_ds.training.logging.run_log import RunLog


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    return storage.join(request.getfixturevalue("s3_env").bucket("runlog-test"), tmp_path.name)


def lines(run: str, name: str) -> list[dict]:
    return [json.loads(line) for line in storage.read_bytes(storage.join(run, name)).splitlines()]


def test_rows_past_the_loaded_step_are_dropped(run: str) -> None:
    first = RunLog(run, LogConfig(tensorboard=False), step=0)
    first.event("start", 0)
    for step in (1, 2, 3, 4):
        first.metrics({"step": step, "loss": math.nan if step == 2 else 0.1 * step})
    first.event("replaced", 4, key="k")
    first.event("preempted", 4)
    first.close()
    second = RunLog(run, LogConfig(tensorboard=False), step=2)
    second.event("resume", 2)
    second.metrics({"step": 3, "loss": 1 / 3})
    second.close()
    found = lines(run, "metrics.jsonl")
    assert [row["step"] for row in found] == [1, 2, 3]
    assert found[1]["loss"] is None
    assert found[2]["loss"] == 1 / 3
    assert [row["event"] for row in lines(run, "events.jsonl")] == ["start", "preempted", "resume"]


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    log = RunLog(str(tmp_path), LogConfig(tensorboard=False), step=5)
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_tensorboard_has_the_same_scalars(run: str) -> None:
    log = RunLog(run, LogConfig(), step=0)
    log.metrics({"step": 1, "loss": 0.5, "batch_hash": "ab"})
    log.close()
    names = storage.list_names(storage.join(run, "tensorboard"))
    assert len(names) == 1
    assert b"loss" in storage.read_bytes(storage.join(run, "tensorboard", names[0]))


def test_status(run: str) -> None:
    log = RunLog(run, LogConfig(tensorboard=False), step=0)
    log.status("running", 0)
    log.status("failed", 3, error="why")
    log.close()
    assert json.loads(storage.read_bytes(storage.join(run, "STATUS.json"))) == {
        "state": "failed",
        "step": 3,
        "error": "why",
    }


def test_progress_comes_to_a_store_with_an_upload(run: str) -> None:
    log = RunLog(run, LogConfig(tensorboard=False), step=0)
    log.progress(4)
    place = storage.join(run, "STATUS.json")
    assert storage.exists(place) == storage.is_local(run)
    log.upload()
    assert json.loads(storage.read_bytes(place)) == {"state": "running", "step": 4}
    log.progress(8)
    log.status("failed", 9)
    log.close()
    assert json.loads(storage.read_bytes(place)) == {"state": "failed", "step": 9}


def test_no_progress_comes_after_the_last_word(
    s3_env: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = storage.join(s3_env.bucket("runlog-test"), tmp_path.name)
    log = RunLog(run, LogConfig(tensorboard=False), step=0)
    log.progress(4)
    write, slow, released = storage.write_bytes, threading.Event(), threading.Event()

    def write_slowly(url: str, data: bytes, **how: Any) -> None:
        if url.endswith("STATUS.json") and b"running" in data:
            slow.set()
            released.wait(1.0)
        write(url, data, **how)

    monkeypatch.setattr(storage, "write_bytes", write_slowly)
    upload = threading.Thread(target=log.upload)
    upload.start()
    assert slow.wait(30)
    log.status("done", 5)
    released.set()
    upload.join()
    log.close()
    assert json.loads(storage.read_bytes(storage.join(run, "STATUS.json"))) == {"state": "done", "step": 5}
