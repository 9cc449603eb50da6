"""How far work on videos is, on stderr: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0


class ProgressDisplay:
    """A context in which progress is shown.

    Args:
        name: of the work.
        total: of what :meth:`show` counts.
        columns: of the bar, behind the percentage; ``{task.fields[note]}`` is the note.
        visible: False shows nothing.
    """

    def __init__(
        self, name: str, total: float, columns: Sequence[str | ProgressColumn], *, visible: bool
    ) -> None:
        self.visible = visible
        self.started = self._line = time.monotonic()
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if visible and console.is_terminal:
            texts = [TextColumn(name), BarColumn(), TextColumn("{task.percentage:3.0f} %")]
            self._bar = Progress(*texts, *columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task(name, total=total, note="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def due(self, *, last: bool) -> bool:
        """Whether anything would be shown now."""
        waited = time.monotonic() - self._line >= _LINE_SECONDS
        return self.visible and bool(self._bar or last or waited)

    def per_second(self, count: float) -> float:
        """Return how many of something that has been counted since the start came in a second."""
        return count / max(time.monotonic() - self.started, 1e-9)

    def show(self, done: float, note: str, line: str) -> None:
        """Show what is done: on the bar with the note, or as a line of its own."""
        self._line = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done, note=note)
        else:
            sys.stderr.write(f"{line}\n")
