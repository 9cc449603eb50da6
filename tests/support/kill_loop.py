"""Kills a command with SIGKILL again and again: between two system calls that publish something, and at any time.

Half of the kills come before the moment of change, the write of ``manifest.json``, and half after it; the last moment
before it and the first one after it are always among them. Above 20 kills every second one comes at any time.

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
    """Kills this process at its n-th moment around what makes files appear or vanish; notes them for n = -1."""

    def __init__(self, number: int, noted: Path) -> None:
        self.number = number
        self.passed = 0
        self.noted = noted

    def __call__(self, name: str) -> None:
        if self.passed == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1
        if self.number == -1:
            with self.noted.open("a") as file:
                file.write(f"{name}\n")

    def around(self, function: Callable[..., Any], what: str) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            # A file that is being written has a name for the moment; what counts is the one it gets.
            name = f"{what} {Path(str(arguments[-1])).name}"
            self(f"before {name}")
            result = function(*arguments, **named)
            self(f"after {name}")
            return result

        return called


def chosen_points(names: list[str], count: int) -> list[int]:
    """Return moments to kill at, as many before the change as after it, evenly spread from the first to the last."""
    change = names.index("after replace manifest.json")
    early, late = _spread(change, count // 2), _spread(len(names) - change, count - count // 2)
    return [*(change - 1 - step for step in early), *(change + step for step in late)]


def _spread(moments: int, count: int) -> list[int]:
    """Return steps away from the change, 0 and the farthest among them."""
    return [round(place * (moments - 1) / max(1, count - 1)) for place in range(count)]


def fork(words: list[str], point: int, noted: Path) -> int:
    """Start the command in a fork; returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        points = KillPoints(point, noted)
        os.fsync = points.around(os.fsync, "fsync")
        Path.replace = points.around(Path.replace, "replace")  # type: ignore[method-assign]  # a point to be killed at
        Path.unlink = points.around(Path.unlink, "unlink")  # type: ignore[method-assign]  # a point to be killed at
        os.remove = points.around(os.remove, "remove")
        shutil.rmtree = points.around(shutil.rmtree, "rmtree")
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            status = pal_shard(words)
    finally:
        os._exit(status)


def run(words: list[str], noted: Path, *, point: int = -2, seconds: float | None = None) -> bool:
    """Run the command, or kill it; False where it ended by itself."""
    child = fork(words, point, noted)
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
    dice, noted = random.Random(int(seed)), work / "points"

    def command(dest: Path) -> list[str]:
        return [word.replace("DEST", str(dest)) for word in words]

    whole = Path(shutil.copytree(source, work / "whole"))
    before = shardset.load_manifest(source).digest
    started = time.monotonic()
    assert not run(command(whole), noted, point=-1)
    duration, names = time.monotonic() - started, noted.read_text().splitlines()
    expected, after = comparable(whole), shardset.load_manifest(str(whole)).digest
    clips = {before: clips_of(source), after: clips_of(whole)}
    states = {before: 0, after: 0}
    killed = 0
    at_any_time = int(kills) // 2 if int(kills) > 20 else 0
    waiting: list[int | None] = [*chosen_points(names, int(kills) - at_any_time), *[None] * at_any_time]
    for number in itertools.count():
        if not waiting:
            break
        assert number < 4 * int(kills), "the command ends before it can be killed"
        dest = Path(shutil.copytree(source, work / str(number)))
        point = waiting[0]
        if point is None:
            hit = run(command(dest), noted, seconds=dice.uniform(0, duration))
        else:
            hit = run(command(dest), noted, point=point)
            assert hit, f"moment {point} of {len(names)} never came"
        if not hit:
            shutil.rmtree(dest)
            continue
        killed += 1
        waiting.pop(0)
        digest = shardset.load_manifest(str(dest)).digest
        states[digest] += 1
        assert clips_of(dest) == clips[digest], f"kill {number}: clips were lost"
        assert not run(command(dest), noted)
        assert comparable(dest) == expected, f"kill {number}: another set than of an undisturbed run"
        shutil.rmtree(dest)
    found = {"kills": killed, "points": len(names), "old": states[before], "new": states[after]}
    print(json.dumps({**found, "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
