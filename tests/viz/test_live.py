"""The page of a run that goes on: pace, time left, and written until the run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pal_ds import storage
from pal_ds.viz.live import watch
from pal_ds.viz.report_page import ReportData
from pal_ds.viz.run_facts import collect_run


def write_run(folder: Path, *, state: str, step: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("data: {global_batch: 8}\nqueue: {size: 64}\n")
    rows = [
        {"step": number, "loss": 3.0, "videos_per_second": 4.0, "data_wait": 0.25}
        for number in range(1, step + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "events.jsonl").write_text(json.dumps({"event": "start", "step": 0, "total_steps": 100}) + "\n")
    (folder / "STATUS.json").write_text(json.dumps({"state": state, "step": step}))
    return folder


def test_a_run_that_goes_on_says_its_speed_and_the_time_left(tmp_path: Path) -> None:
    facts = dict(collect_run(str(write_run(tmp_path / "run", state="running", step=10))).facts)
    assert facts["Steps"] == "10 of 100"
    assert facts["Speed"] == "4.0 videos/s"
    assert facts["Waiting for data"] == "25 % of the time"
    assert facts["Time left"] == "about 3 min 00 s"


def test_a_finished_run_has_no_time_left(tmp_path: Path) -> None:
    facts = dict(collect_run(str(write_run(tmp_path / "run", state="done", step=100))).facts)
    assert "Time left" not in facts


def test_the_page_follows_the_run_to_its_end(tmp_path: Path) -> None:
    run, page, said = tmp_path / "run", tmp_path / "page.html", list[str]()
    write_run(run, state="running", step=3)
    seen: list[str] = []

    def go_on(_: float) -> None:
        seen.append(page.read_text())
        write_run(run, state="done" if len(seen) == 2 else "running", step=3 + len(seen))

    last = watch(lambda: collect_run(str(run)), str(page), seconds=7, say=said.append, sleep=go_on)
    assert (last.state, last.step) == ("done", 5)
    assert all('http-equiv="refresh" content="7"' in text for text in seen)
    assert "http-equiv" not in page.read_text()
    assert [text.split(":")[0] for text in said] == ["running, step 3", "running, step 4", "done, step 5"]


def test_a_store_that_fails_for_a_while_costs_a_page_and_no_more(tmp_path: Path) -> None:
    run, page, said = (
        write_run(tmp_path / "run", state="running", step=3),
        tmp_path / "page.html",
        list[str](),
    )
    reads = 0

    def collect() -> ReportData:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise storage.StorageError("s3://b", "the bucket sleeps")
        if reads == 3:
            write_run(run, state="failed", step=4)
        return collect_run(str(run))

    assert watch(collect, str(page), seconds=1, say=said.append, sleep=lambda _: None).state == "failed"
    assert any("the bucket sleeps; tried again" in text for text in said)


@pytest.mark.slow
def test_the_command_watches_until_it_is_told_to_stop(tmp_path: Path) -> None:
    run, page = write_run(tmp_path / "run", state="running", step=3), tmp_path / "page.html"
    command = [sys.executable, "-m", "pal_ds.cli.report", str(run), "--out", str(page), "--watch", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "running, step 3" in process.stderr.readline()
        write_run(run, state="running", step=9)
        until = time.monotonic() + 60
        while "<dd>9 of 100</dd>" not in page.read_text():
            assert time.monotonic() < until
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
