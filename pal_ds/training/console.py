"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere (rank 0)."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Console:
    """Prints log rows to stderr.

    Args:
        total_steps: length of the run.
        step: steps already done.
    """

    def __init__(self, total_steps: int, step: int) -> None:
        self._total = total_steps
        self._console = RichConsole(file=sys.stderr, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("[bold]training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._task = self._progress.add_task("steps", total=total_steps, completed=step, note="")
            self._progress.start()

    def row(self, row: dict[str, Any]) -> None:
        """Show a training row."""
        loss = "skipped" if row["loss"] is None else f"{row['loss']:.4f}"
        top1 = f"top1 {100 * row['top1']:.0f} %  " if "top1" in row else ""
        text = (
            f"step {row['step']}/{self._total}  epoch {row['epoch']}  loss {loss}  {top1}lr {row['lr']:.2e}  "
            f"queue {100 * row['queue_fill']:.0f} %  {row['videos_per_second']:.1f} videos/s  "
            f"data wait {100 * row['data_wait']:.0f} %"
        )
        if self._progress is not None:
            self._progress.update(self._task, completed=row["step"], note=f"loss {loss}")
        self._console.print(text)

    def validation(self, row: dict[str, Any]) -> None:
        """Show a validation row."""
        top1 = f"  top1 {100 * row['val_top1']:.0f} %" if "val_top1" in row else ""
        self._console.print(
            f"step {row['step']}/{self._total}  validation loss {row['val_loss']:.4f}{top1}  "
            f"({row['val_samples']} videos, {row['val_seconds']:.1f} s)"
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
