"""The page of a run that goes on, written again and again until the run ends."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from pal_ds import storage
from pal_ds.viz.report_page import ReportData, write_report

#: States after which nothing more comes; a preempted run is expected to be started again.
ENDED = frozenset({"done", "failed"})


def watch(
    collect: Callable[[], ReportData],
    out_url: str,
    *,
    seconds: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> ReportData:
    """Write the page every ``seconds`` until the run is done or failed; browsers load it again by themselves.

    A store that fails meanwhile costs a page, not the watch.

    Args:
        collect: reads the run.
        out_url: page to write, path or URL.
        seconds: between two pages.
        say: told of each page and each failure, in a line.
        sleep: waits so many seconds.

    Returns:
        What the last page shows, which no longer asks browsers to load it again.

    Raises:
        RunError: the folder is no run.
        StorageError: the run can't be read at the first try.
    """
    data = collect()
    while True:
        try:
            ended = data.state in ENDED
            write_report(dataclasses.replace(data, refresh_seconds=0 if ended else round(seconds)), out_url)
            say(f"{data.state}, step {data.step}: {storage.redact(out_url)}")
            if ended:
                return data
        except storage.StorageError as error:
            say(f"page not written: {error}; tried again")
        sleep(seconds)
        try:
            data = collect()
        except storage.StorageError as error:
            say(f"run not read: {error}; tried again")
