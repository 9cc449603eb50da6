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

    def validation(self, row: dict[str, Any], untrained: dict[str, Any] | None) -> None:
        """Show a validation row beside what a guess and the untrained network score.

        Args:
            row: the row.
            untrained: the row of step 0, where there is one and this is another.
        """
        parts = [
            f"validation loss {row['val_loss']:.4f}{_beside(row, untrained, 'val_loss', 'val_chance_loss')}"
        ]
        if "val_top1" in row:
            beside = _beside(row, untrained, "val_top1", "val_chance_top1", percent=True)
            parts.append(f"top1 {100 * row['val_top1']:.1f} %{beside}")
        self._console.print(
            f"step {row['step']}/{self._total}  {'  '.join(parts)}  "
            f"{row['val_samples']} videos, {row['val_seconds']:.1f} s"
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()


def _beside(
    row: dict[str, Any], untrained: dict[str, Any] | None, name: str, chance: str, *, percent: bool = False
) -> str:
    """Return the controls of a figure in brackets: a guess, and the untrained network."""
    found = {"guess": row.get(chance), "untrained": untrained.get(name) if untrained else None}
    texts = [
        f"{label} {100 * value:.1f} %" if percent else f"{label} {value:.4f}"
        for label, value in found.items()
        if value is not None
    ]
    return f" ({', '.join(texts)})" if texts else ""
