"""Whom the watchdog blames, and that nothing it asks can hold it up."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
import torch

from pal_ds.distributed import watchdog
from pal_ds.distributed.ranks import Ranks
from pal_ds.distributed.watchdog import Report, name_the_culprits


def report(rank: int, *, count: int = 5, step: int = 7, waits: bool = True) -> Report:
    return Report(rank, f"node{rank}", count, step, "micro-step 0", "feed.py:9 (next)", waits)


def later(reports: list[Report]) -> list[Report]:
    return [dataclasses.replace(found, count=found.count + 1) for found in reports]


def test_a_rank_whose_reports_have_stopped_is_named_first() -> None:
    before = [report(0), report(1, waits=False), report(2)]
    now = later(before)
    now[2] = before[2]
    text = name_the_culprits(before, now)
    assert text.startswith("no sign of life from rank 2 on node2, last seen in micro-step 0 of step 7")
    assert "rank 1" not in text


def test_a_rank_that_never_reported_is_named() -> None:
    assert "rank 1, which never reported" in name_the_culprits([report(0), None], [report(0, count=6), None])


def test_a_rank_busy_with_something_of_its_own_is_what_the_others_wait_for() -> None:
    before = [report(0), report(1, waits=False), report(2)]
    text = name_the_culprits(before, later(before))
    assert text == f"the others wait for {later(before)[1]}"
    assert "feed.py:9 (next)" in text


def test_where_all_wait_the_fewest_steps_decide() -> None:
    before = [report(0, step=8), report(1, step=8), report(2, step=7)]
    assert name_the_culprits(before, later(before)).startswith("furthest behind is rank 2")


def test_many_are_not_all_listed() -> None:
    before = [report(rank) for rank in range(64)]
    text = name_the_culprits(before, before)
    assert text.count("node") == 8
    assert "and 56 more" in text


def test_the_line_of_a_thread_and_whether_it_waits_for_others_is_seen() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        line, waits = watchdog._where(thread.ident or 0)
    finally:
        done.set()
        thread.join()
    assert line.startswith("threading.py:")
    assert not waits


def test_an_answer_that_does_not_come_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    started = threading.Event()

    def never() -> str:
        started.set()
        time.sleep(30)
        return "late"

    assert watchdog._within(0.05, never) is None
    assert started.wait(10)
    assert watchdog._within(30.0, lambda: "soon") == "soon"
    assert watchdog._within(30.0, lambda: 1 / 0) is None
    assert "ZeroDivisionError" in caplog.text


def standing_still(device_busy, seconds: float = 0.2) -> Report:
    """Return the report of a rank of one that has not moved for longer than half its limit."""
    ranks = Ranks(0, 1, 0, 1, torch.device("cpu"))
    dog = watchdog.Watchdog(ranks, seconds, lambda _message: None, device_busy)
    time.sleep(seconds * 0.75)
    return dog._report()


def test_a_rank_that_waits_for_its_device_is_not_busy_with_something_of_its_own() -> None:
    """What a host does while NCCL waits for a peer: it stands at some line that asks the device for a number."""
    assert standing_still(lambda: True).waits_for_others
    assert not standing_still(lambda: False).waits_for_others
    assert not standing_still(None).waits_for_others


def test_a_device_that_gives_no_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_BUSY_LIMIT_SECONDS", 0.05)
    started = time.monotonic()
    assert standing_still(lambda: time.sleep(30) is None).waits_for_others
    assert time.monotonic() - started < 10


def test_a_rank_that_goes_on_is_not_asked_for_its_device() -> None:
    asked: list[bool] = []
    ranks = Ranks(0, 1, 0, 1, torch.device("cpu"))
    dog = watchdog.Watchdog(ranks, 60.0, lambda _message: None, lambda: asked.append(True) is None)
    dog.beat("micro-step 0", 3)
    assert not dog._report().waits_for_others
    assert not asked


def test_a_rank_inside_synchronised_batchnorm_waits() -> None:
    """The frame's file decides, whatever the class that stands in it."""
    ready, done = threading.Event(), threading.Event()
    source = "def forward(ready, done):\n    ready.set()\n    done.wait(20)\n"
    names: dict = {}
    exec(compile(source, "/site/torch/nn/modules/_functions.py", "exec"), names)
    thread = threading.Thread(target=names["forward"], args=(ready, done))
    thread.start()
    try:
        assert ready.wait(10)
        assert watchdog._where(thread.ident or 0)[1]
    finally:
        done.set()
        thread.join()
