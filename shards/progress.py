"""Says how a build goes: a bar on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import collections
import sys
import threading
import time
from typing import Any

_PLAIN_SECONDS = 10.0


class Progress:
    """Counts clips, bytes and rejects; safe to call from every thread.

    Args:
        total: clips to be made; 0 where nobody knows.
        label: what is counted, for the line's beginning.
        quiet: say nothing.
    """

    def __init__(self, total: int, *, label: str = "clips", quiet: bool = False) -> None:
        self._total = total
        self._label = label
        self._quiet = quiet
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._said = self._started
        self._done = self._said_done = 0
        self._bytes = 0
        self._rejects: collections.Counter[str] = collections.Counter()
        #: What is said beside the counts.
        self.context = ""
        self._bar: Any = None
        self._task: Any = None
        if not quiet and sys.stderr.isatty():
            self._bar, self._task = _rich_bar(total, label)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet and self._done > self._said_done:
            self._say()

    def clip(self, size: int) -> None:
        """Count one clip that is in a shard."""
        self._count(size, None)

    def reject(self, stage: str) -> None:
        """Count one reject."""
        self._count(0, stage)

    def note(self, text: str) -> None:
        """Say one line."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _count(self, size: int, stage: str | None) -> None:
        with self._lock:
            self._done += 1
            self._bytes += size
            if stage is not None:
                self._rejects[stage] += 1
            if self._quiet:
                return
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done, detail=self._detail())
            elif time.monotonic() - self._said >= _PLAIN_SECONDS:
                self._said = time.monotonic()
                self._say()

    def _detail(self) -> str:
        seconds = max(1e-3, time.monotonic() - self._started)
        rejects = ", ".join(f"{stage} {count}" for stage, count in sorted(self._rejects.items()))
        return (
            f"{self._done / seconds:.1f} {self._label}/s"
            + (f"  {self._bytes / seconds / 1e6:.2f} MB/s" if self._bytes else "")
            + (f"  rejected: {rejects}" if rejects else "")
            + (f"  {self.context}" if self.context else "")
        )

    def _say(self) -> None:
        seconds = max(1e-3, time.monotonic() - self._started)
        remaining = (self._total - self._done) * seconds / max(1, self._done)
        known = self._total > 0
        self._said_done = self._done
        print(
            f"{self._done}{f'/{self._total}' if known else ''} {self._label}  {self._detail()}"
            f"{f'  ETA {remaining:.0f} s' if known else ''}",
            file=sys.stderr,
            flush=True,
        )


def _rich_bar(total: int, label: str) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    return bar, bar.add_task(label, total=total or None, detail="")
