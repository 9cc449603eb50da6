"""Kills a command with SIGKILL again and again: between two system calls that publish something, and at any time.

    python tests/support/kill_loop.py SET FOLDER KILLS SEED WORDS…

Every kill gets a copy of SET, at FOLDER/<number>, which ``DEST`` among WORDS stands for. After it the set must be
what it was or what the command makes of it, and the same command must finish it, with the bytes of a run that nobody
disturbed. The command runs in forks of this process, so that a kill costs no start of an interpreter. Prints one JSON
object.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pal_ds.formats import shardset
from shards.cli import main as pal_shard
from shards.encoding.ffmpeg_info import encoder_identity
from shards.lifecycle import append, remove
from tests.support.reading_sets import clips_of
from tests.support.shard_files import files_of

__all__ = ["append", "remove"]  # imported before the fork, not in it


class KillPoints:
    """Kills this process at its n-th moment around what makes files appear or vanish; counts them for n = -1."""

    def __init__(self, number: int, counted: Path) -> None:
        self.number = number
        self.passed = 0
        self.counted = counted

    def __call__(self) -> None:
        if self.passed == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1
        if self.number == -1:
            self.counted.write_text(str(self.passed))

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            self()
            result = function(*arguments, **named)
            self()
            return result

        return called


def fork(words: list[str], point: int, counted: Path) -> int:
    """Start the command in a fork; returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        points = KillPoints(point, counted)
        os.fsync = points.around(os.fsync)
        Path.replace = points.around(Path.replace)  # type: ignore[method-assign]
        Path.unlink = points.around(Path.unlink)  # type: ignore[method-assign]
        os.remove = points.around(os.remove)
        shutil.rmtree = points.around(shutil.rmtree)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            status = pal_shard(words)
    finally:
        os._exit(status)


def run(words: list[str], counted: Path, *, point: int = -2, seconds: float | None = None) -> bool:
    """Run the command, or kill it; False where it ended by itself."""
    child = fork(words, point, counted)
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        return True
    assert os.WEXITSTATUS(ended) == 0, f"exit status {os.WEXITSTATUS(ended)}"
    return False


def comparable(folder: Path) -> dict[str, bytes]:
    """The files of a set; what tells the time is left out of the audit."""
    files = files_of(folder)
    if "removals.jsonl" in files:
        keys = sorted(json.loads(line)["key"] for line in files["removals.jsonl"].splitlines())
        files["removals.jsonl"] = json.dumps(keys).encode()
    return files


def main(source: str, folder: str, kills: str, seed: str, *words: str) -> None:
    """See the module's text."""
    encoder_identity()
    work = Path(folder)
    dice, counted = random.Random(int(seed)), work / "points"

    def command(dest: Path) -> list[str]:
        return [word.replace("DEST", str(dest)) for word in words]

    whole = Path(shutil.copytree(source, work / "whole"))
    before = shardset.load_manifest(source).digest
    started = time.monotonic()
    assert not run(command(whole), counted, point=-1)
    duration, points = time.monotonic() - started, int(counted.read_text())
    expected, after = comparable(whole), shardset.load_manifest(str(whole)).digest
    clips = {before: clips_of(source), after: clips_of(whole)}
    states = {before: 0, after: 0}
    killed, exact = 0, int(kills) // 2
    for number in itertools.count():
        if killed == int(kills):
            break
        assert number < 4 * int(kills), "the command ends before it can be killed"
        dest = Path(shutil.copytree(source, work / str(number)))
        if number % 2:
            hit = run(command(dest), counted, seconds=dice.uniform(0, duration))
        else:
            point = number // 2 * (points - 1) // max(1, exact - 1) % points
            hit = run(command(dest), counted, point=point)
        if not hit:
            continue
        killed += 1
        digest = shardset.load_manifest(str(dest)).digest
        states[digest] += 1
        assert clips_of(dest) == clips[digest], f"kill {number}: clips were lost"
        assert not run(command(dest), counted)
        assert comparable(dest) == expected, f"kill {number}: another set than of an undisturbed run"
        shutil.rmtree(dest)
    found = {"kills": killed, "points": points, "old": states[before], "new": states[after]}
    print(json.dumps({**found, "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
