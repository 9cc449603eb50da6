"""The latest figures of a run as a text file for Prometheus, which node_exporter's textfile collector reads.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/, "Text-based format". The file is replaced as a
whole, so that a reader never sees half of it; the name of what is written first does not end with ``.prom``, so that
no collector takes it.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pal_ds import storage

log = logging.getLogger(__name__)

STATES = ("running", "preempted", "failed", "done")
_HELP = {
    "pal_step": "Optimizer steps done at the latest log row.",
    "pal_videos_per_second": "Videos per second over all ranks since the log row before.",
    "pal_data_wait": "Share of the time that ranks spent waiting for batches.",
    "pal_slowest_rank": "Rank with the longest own time in the logged step.",
    "pal_slowest_rank_seconds": "Own time of that rank in the logged step.",
    "pal_median_rank_seconds": "Own time of the median rank in the logged step.",
}


class PrometheusFile:
    """One run's text file.

    Args:
        place: a file that ends with ``.prom``, or a folder, in which it is called ``pal_<name of the run>.prom``.
        run_url: the run folder; without credentials it is the label ``run`` of every line.
    """

    def __init__(self, place: str, run_url: str) -> None:
        shown = storage.redact(run_url).rstrip("/")
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", shown.rsplit("/", 1)[-1]) or "run"
        path = Path(place).expanduser()
        self.path = path if place.endswith(".prom") else path / f"pal_{name}.prom"
        self._run = shown
        self._row: dict[str, float] = {}
        self._events: Counter[str] = Counter()
        self._state = ""
        self._seen = 0.0
        self._failing = False

    def row(self, row: Mapping[str, Any]) -> None:
        """Show a row's numbers; those of other kinds of rows stay."""
        for name, value in row.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                self._row[_metric(name)] = value
            else:
                self._row.pop(_metric(name), None)
        self._seen = time.time()
        self._write()

    def event(self, event: str) -> None:
        """Count an event; it is shown with the next row or state."""
        self._events[event] += 1

    def state(self, state: str, step: int) -> None:
        """Show the run's state."""
        self._state = state
        self._row["pal_step"] = step
        self._write()

    def _lines(self) -> list[str]:
        label = self._run.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        lines = []
        for name, value in sorted(self._row.items()):
            text = _HELP.get(
                name, f"{name.removeprefix('pal_')} of the latest row in metrics.jsonl that has it."
            )
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f'{name}{{run="{label}"}} {value!r}']
        if self._seen:
            name = "pal_last_row_timestamp_seconds"
            lines += [f"# HELP {name} When the latest row was written.", f"# TYPE {name} gauge"]
            lines.append(f'{name}{{run="{label}"}} {self._seen!r}')
        if self._state:
            lines += [
                "# HELP pal_run_state 1 for the state that the run is in.",
                "# TYPE pal_run_state gauge",
            ]
            lines += [
                f'pal_run_state{{run="{label}",state="{state}"}} {int(state == self._state)}'
                for state in STATES
            ]
        if self._events:
            lines += ["# HELP pal_events_total Events since this start.", "# TYPE pal_events_total counter"]
            lines += [
                f'pal_events_total{{run="{label}",event="{event}"}} {count}'
                for event, count in sorted(self._events.items())
            ]
        return lines

    def _write(self) -> None:
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text("\n".join(self._lines()) + "\n")
            # Made for another user's collector to read, whatever the umask says.
            partial.chmod(0o644)
            partial.replace(self.path)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("%s not written: %s; training goes on", self.path, error)
            self._failing = True


def _metric(name: str) -> str:
    return "pal_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
