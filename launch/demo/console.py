"""What the demonstration shows on the terminal: a line a stage, and one that moves while the stage works.

What the commands themselves print goes to a file a stage; ``--verbose`` shows it too.
"""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[2]
#: Seconds between two lines of progress where the output is no terminal.
QUIET_SECONDS = 20.0
#: Lines of a failed command that are shown.
TAIL = 15
_COUNT = re.compile(r"(?:^|\s)(\d+)/(\d+)(?=\s|$)")
_TRAINING = re.compile(r"loss (\S+)\s+top1 (\S+ %)")


class StageError(RuntimeError):
    """A command of a stage failed; the message has its last lines and the file with all of them."""


@dataclasses.dataclass
class Stage:
    """A stage while it runs.

    Attributes:
        name: what it does.
        log: file that takes what its commands print.
        detail: a line on what came out, set by whoever runs it.
    """

    name: str
    log: Path
    detail: str = ""


class Console:
    """Stages one after the other, on stderr.

    Args:
        logs: folder for the stages' files.
        stages: how many there will be.
        verbose: show what the commands print, too.
        stream: where to; stderr by default.
    """

    def __init__(
        self, logs: Path, stages: int, *, verbose: bool = False, stream: TextIO | None = None
    ) -> None:
        self.done: list[tuple[str, float, str]] = []
        self._logs = logs
        self._stages = stages
        self._verbose = verbose
        self._stream = stream or sys.stderr
        self._stage: Stage | None = None
        self._begun = self._shown = 0.0
        self._first: tuple[int, float] | None = None
        logs.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Run a stage; afterwards its time and its ``detail`` are shown and kept in ``done``."""
        number = len(self.done) + 1
        stage = Stage(name, self._logs / f"{number}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.log")
        stage.log.write_text("")
        self._stage, self._begun, self._first = stage, time.monotonic(), None
        self._line(f"[{number}/{self._stages}] {name} ...")
        yield stage
        seconds = time.monotonic() - self._begun
        self.done.append((name, seconds, stage.detail))
        self._line(f"[{number}/{self._stages}] {name}: {seconds:.0f} s  {stage.detail}".rstrip(), end=True)
        self._stage = None

    def say(self, text: str) -> None:
        """Print lines that stay."""
        self._line("\n      ".join(text.splitlines()), end=True)

    def note(self, text: str) -> None:
        """Keep a line in the stage's file."""
        assert self._stage is not None
        with self._stage.log.open("a") as file:
            file.write(text.rstrip("\n") + "\n")
        if self._verbose:
            self._line(text.rstrip("\n"), end=True)

    def run(
        self,
        words: Sequence[str],
        *,
        accepted: tuple[int, ...] = (0,),
        env: Mapping[str, str] | None = None,
        on_line: Callable[[subprocess.Popen[str], str], None] | None = None,
    ) -> str:
        """Run a command from the root of the project and return what it printed on stdout.

        Its stderr goes to the stage's file; counts in it (``7/72``) move the stage's line.

        Args:
            words: the command.
            accepted: exit statuses that are no failure.
            env: its environment.
            on_line: called with the process and each line of its stderr.

        Raises:
            StageError: another exit status.
        """
        assert self._stage is not None
        with self._stage.log.with_suffix(".out").open("w+") as out:
            process = subprocess.Popen(
                list(words), cwd=ROOT, env=env, stdout=out, stderr=subprocess.PIPE, text=True
            )
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    self.note(line)
                    self._progress_in(line)
                    if on_line is not None:
                        on_line(process, line)
            except BaseException:
                process.send_signal(signal.SIGTERM)
                process.wait()
                raise
            status = process.wait()
            out.seek(0)
            printed = out.read()
        if status not in accepted:
            lines = (self._stage.log.read_text() + printed).splitlines()[-TAIL:]
            raise StageError(
                f"{' '.join(words[:3])} ended with status {status}; all it said is in {self._stage.log}, "
                "its last lines:\n  " + "\n  ".join(lines)
            )
        return printed

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Move the stage's line: ``done`` of ``total``, and how long the rest takes at the same pace."""
        now = time.monotonic()
        if self._first is None or done < self._first[0]:
            self._first = (done, now)
        first, since = self._first
        left = f"  about {(now - since) * (total - done) / (done - first):.0f} s left" if done > first else ""
        if self._stage is not None and (self._stream.isatty() or now - self._shown >= QUIET_SECONDS):
            place = f"[{len(self.done) + 1}/{self._stages}] {self._stage.name}"
            self._line(f"{place}: {done}/{total}{text}{left}")

    def _progress_in(self, line: str) -> None:
        count, training = _COUNT.search(line), _TRAINING.search(line)
        if count is not None:
            figures = f"  loss {training[1]}  top-1 {training[2]}" if training else ""
            self.progress(int(count[1]), int(count[2]), figures)

    def _line(self, text: str, *, end: bool = False) -> None:
        self._shown = time.monotonic()
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if end else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
