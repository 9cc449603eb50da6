"""Whom the watchdog blames, and that nothing it asks can hold it up."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from pal_ds.distributed import watchdog
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
