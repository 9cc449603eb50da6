"""One stage of the comparison: a command in its own process, done once for its inputs, resumable.

A stage's key is a hash of its command, of the files it reads and of the keys of the stages it builds on. Its folder
carries the key, so a changed setting makes a new folder and nothing is mixed; ``<folder>.done.json`` beside it says
that the command ended well, how long it took over all starts, and at which commit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import cores, gpu, processor
from pal_ds.formats import exit_status

ROOT = Path(__file__).resolve().parents[2]
EXIT_PREEMPTED = exit_status.PREEMPTED
#: A command that was asked to stop gets this long to save.
GRACE_SECONDS = 60.0


class StageError(RuntimeError):
    """A command ended badly: which, with what status, and where its output is."""


class OutOfTime(RuntimeError):  # noqa: N818 (no error: the same command goes on later)
    """The time that was given is used up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A command and what it depends on.

    Attributes:
        name: what it does, such as ``features``.
        owner: for whom, such as ``pal-seed0``; ``all`` where it is shared.
        words: the command; ``{python}``, ``{cores}``, ``{out}`` (its folder) and ``{0}``, ``{1}`` … (folders of
            ``inputs``) are filled in, other braces are not allowed.
        inputs: stages that must be done before.
        files: files whose content decides the result.
        places: what stands for a path in ``words`` but does not decide the result, such as where a corpus lies.
        identity: what decides the result beside all that, such as the digest of a corpus.
        aside: more words of the command, which change its cost and not its result; ``{work}`` is the work folder.
    """

    name: str
    owner: str
    words: tuple[str, ...]
    inputs: tuple[Stage, ...] = ()
    files: tuple[Path, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    identity: str = ""
    aside: tuple[str, ...] = ()

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that decides the result, 12 hexadecimal digits."""
        contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in self.files]
        parts = [self.name, self.words, [stage.key for stage in self.inputs], contents, self.identity]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    def folder(self, work: Path) -> Path:
        """Where its result lies."""
        return work / f"{self.name}-{self.owner}-{self.key}"

    def marker(self, work: Path) -> Path:
        """The file that says it is done."""
        return work / f"{self.folder(work).name}.done.json"

    def command(self, work: Path) -> list[str]:
        """The words with every place filled in."""
        known = {
            "python": sys.executable,
            "out": str(self.folder(work)),
            "cores": str(cores()),
            "work": str(work),
            **dict(self.places),
        }
        folders = [str(stage.folder(work)) for stage in self.inputs]
        return [word.format(*folders, **known) for word in (*self.words, *self.aside)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a finished stage: seconds over all starts, starts, commit, machine."""

    seconds: float
    starts: int
    commit: str
    machine: str


class Runner:
    """Runs stages in order, each after what it depends on.

    Args:
        work: folder of all results.
        hours: stop after so long; 0 has no limit.
        threads: of each command's numerics.
    """

    def __init__(self, work: Path, *, hours: float = 0.0, threads: int = 1) -> None:
        self.work = work
        self._threads = str(threads)
        self._deadline = time.monotonic() + 3600 * hours if hours else float("inf")
        work.mkdir(parents=True, exist_ok=True)

    def done(self, stage: Stage) -> Record | None:
        """Return what is known of a finished stage, None where it isn't."""
        marker = stage.marker(self.work)
        if not marker.exists():
            return None
        found = json.loads(marker.read_text())
        return Record(**{field.name: found[field.name] for field in dataclasses.fields(Record)})

    def note(self, stage: Stage, record: Record) -> None:
        """Take a stage as done whose folder was brought from elsewhere."""
        _replace(stage.marker(self.work), dataclasses.asdict(record))

    def stop(self) -> None:
        """Use up the time: commands that run are asked to save and end."""
        self._deadline = 0.0

    def run(self, stage: Stage) -> None:
        """Run a stage and what it needs, unless done.

        Raises:
            StageError: a command failed.
            OutOfTime: the time given is used up; what was begun goes on next time.
        """
        if self.done(stage):
            return
        for needed in stage.inputs:
            self.run(needed)
        # Several runners may share a work folder; the second waits for the first and finds the stage done.
        with (self.work / f"{stage.folder(self.work).name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.done(stage):
                self._run_alone(stage)

    def _run_alone(self, stage: Stage) -> None:
        if time.monotonic() >= self._deadline:
            raise OutOfTime(f"{stage.owner} {stage.name} is next")
        self._say(f"{stage.owner} {stage.name} ...")
        log = self.work / f"{stage.folder(self.work).name}.log"
        begun = time.monotonic()
        try:
            status = self._execute(stage.command(self.work), log)
        finally:
            spent = self._add_time(stage, time.monotonic() - begun)
        if status == EXIT_PREEMPTED or (status != 0 and time.monotonic() >= self._deadline):
            raise OutOfTime(f"{stage.owner} {stage.name} goes on next time")
        if status != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise StageError(f"{stage.owner} {stage.name} ended with status {status}, see {log}\n{tail}")
        document = {
            "stage": stage.name,
            "owner": stage.owner,
            "words": list(stage.words),
            "identity": stage.identity,
            "inputs": [needed.folder(self.work).name for needed in stage.inputs],
            "seconds": round(sum(spent), 1),
            "starts": len(spent),
            "commit": commit(),
            "machine": machine(),
        }
        _replace(stage.marker(self.work), document)
        self._say(f"{stage.owner} {stage.name}: {sum(spent):.1f} s")

    def _execute(self, words: list[str], log: Path) -> int:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), self._threads)
        environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
        with log.open("ab") as output:
            process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=output)
            while time.monotonic() < self._deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(min(1.0, max(0.01, self._deadline - time.monotonic())))
            # SIGTERM lets every command here save what it has; the next start goes on.
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise OutOfTime(f"{' '.join(words[1:3])} was stopped and goes on next time")

    def _add_time(self, stage: Stage, seconds: float) -> list[float]:
        """Keep the seconds of every start, so that a resumed stage doesn't look quick."""
        path = self.work / f"{stage.folder(self.work).name}.seconds.json"
        spent: list[float] = [*(json.loads(path.read_text()) if path.exists() else []), round(seconds, 1)]
        _replace(path, spent)
        return spent

    def _say(self, text: str) -> None:
        sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
        sys.stderr.flush()


@functools.cache
def commit() -> str:
    """The checkout's commit, ``+`` after it where files differ from it; empty outside a checkout."""
    asked = ["git", "describe", "--always", "--dirty=+", "--abbrev=7", "--exclude=*"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def machine() -> str:
    """Processor, cores this process may use, and GPU if there is one."""
    parts = (processor(), f"{cores()} cores", gpu())
    return ", ".join(part for part in parts if part)


def _replace(path: Path, content: object) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
