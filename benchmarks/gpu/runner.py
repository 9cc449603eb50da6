"""Runs steps one after the other, each in a process with a limit, and writes every result at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import PHASE_SECONDS, PHASES, Step

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that a step is told earlier than it is ended, and then has to end by itself.
_NOTICE, _GRACE = 5.0, 10.0
_SAID = 4000


class Runner:
    """Runs phases and keeps one JSON file up to date.

    Args:
        out: the file; results of other phases in it are kept.
        device: ``cuda`` or ``cpu``.
        tiny: as small as can be.
        folder: for shard sets and runs, kept between phases.
        brought: what was packed; None where nothing was brought.
    """

    def __init__(self, out: Path, *, device: str, tiny: bool, folder: Path, brought: Path | None) -> None:
        self._out = out
        self._words = ["--device", device, "--folder", str(folder.resolve())]
        self._words += ["--tiny"] if tiny else []
        self._words += ["--brought", str(brought.resolve())] if brought else []
        self._environment = _environment(brought) | ({"OMP_NUM_THREADS": "1"} if tiny else {})
        folder.mkdir(parents=True, exist_ok=True)
        self.document: dict[str, Any] = {"steps": {}}
        if out.exists():
            self.document = json.loads(out.read_text())
        self._writing = threading.Lock()
        self.document |= {"device": device, "tiny": tiny}

    def run(self, phases: Sequence[str], only: Sequence[str] = (), jobs: int = 1) -> bool:
        """Run phases; tell whether every step was sound. A step that fails never keeps a later one from running.

        Args:
            phases: which, in order.
            only: of their steps, only these; empty for all.
            jobs: steps at a time, once the first phase has made the clips that all need; for a CPU, where nobody
                takes a time from it.
        """
        began, sound = time.monotonic(), True
        for number, phase in enumerate(phases):
            steps = [step for step in PHASES[phase] if not only or step.name in only]
            if jobs > 1 and number:
                break
            ends = time.monotonic() + PHASE_SECONDS
            states = [self._done(phase, step, ends) for step in steps]
            sound &= all(states)
        else:
            return sound
        rest = [
            (phase, step) for phase in phases[1:] for step in PHASES[phase] if not only or step.name in only
        ]
        ends = began + PHASE_SECONDS * len(phases)
        with ThreadPoolExecutor(jobs) as pool:
            return sound & all(list(pool.map(lambda pair: self._done(pair[0], pair[1], ends), rest)))

    def _done(self, phase: str, step: Step, ends: float) -> bool:
        """Run a step, write its result, and tell whether it was sound."""
        result = self._step(step, ends)
        with self._writing:
            self._note(step, phase, result)
        return bool(result["state"] == "ok")

    def _step(self, step: Step, phase_ends: float) -> dict[str, Any]:
        limit = min(step.limit, phase_ends - time.monotonic())
        if limit < min(20.0, step.limit):
            return {"state": "left out", "error": "the phase's time is up; run the phase again"}
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="pal-gpu-") as place:
            out, said = Path(place) / "result.json", Path(place) / "said.txt"
            words = [sys.executable, "-m", "benchmarks.gpu.step", step.name, str(out), *self._words]
            with said.open("w") as file:
                process = subprocess.Popen(
                    [*words, "--deadline", str(max(5.0, limit - _NOTICE))],
                    cwd=ROOT,
                    env=self._environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                status = _ended(process, limit)
            result: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1)}
            if status == 0 and out.exists():
                return result | {"state": "ok", "result": json.loads(out.read_text())}
            state = "timed out" if status is None else "failed"
            return result | {"state": state, "error": said.read_text(errors="replace")[-_SAID:]}

    def _note(self, step: Step, phase: str, result: dict[str, Any]) -> None:
        self.document["steps"][step.name] = {"phase": phase, "about": step.about, **result}
        part = self._out.with_name(self._out.name + ".part")
        part.write_text(json.dumps(self.document, indent=1) + "\n")
        part.replace(self._out)
        last = result.get("error", "").strip().splitlines()[-1:]
        print(f"{step.name}: {result['state']} {result.get('seconds', 0)} s {' '.join(last)}", flush=True)


def _ended(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """Wait for a step; end it and everything it started at its limit. None where the limit was reached."""
    status: int | None
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        status = None
    # What it left behind, or what it is: a session of its own.
    for which, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, 0.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, which)
        if status is not None:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace or None)
            break
    return status


def _environment(brought: Path | None) -> dict[str, str]:
    """Put what was brought in front: packages, FFmpeg's commands and libraries."""
    found = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if brought is None:
        return found
    folder = brought.resolve()
    for name, place in (("PATH", "bin"), ("LD_LIBRARY_PATH", "lib"), ("PYTHONPATH", "site")):
        if (folder / place).is_dir():
            found[name] = os.pathsep.join(filter(None, (str(folder / place), found.get(name))))
    return found
