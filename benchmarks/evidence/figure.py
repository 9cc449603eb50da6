"""Pictures of the comparison: variants with intervals between floor and ceiling, and curves against samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.evidence.results import FIGURES, Estimate, Measured, estimate
from benchmarks.evidence.variants import VARIANTS
from pal_ds.viz.style import ACCENT, ACTION, BACKGROUND, GOOD, INK, SECOND, new_figure, to_bytes

SHOWN = ("gtad_map", "anchor_free_map", "auc_within", "boundary_ap", "segment_knn", "tac_linear")
FLOORS = ("noise", "thumbnails", "motion", "random")
CEILINGS = ("supervised", "pose", "one-hot")
_PALETTE = (ACTION, ACCENT, SECOND, GOOD, "#8d6a9f", "#5c7a29", "#c77dba")


def intervals(rows: Mapping[str, Sequence[Measured]]) -> bytes:
    """Draw every variant's figures with their 95 % intervals, floors and ceilings in grey: SVG.

    Axes reach as far as networks and floors do; a ceiling beyond is an arrow with its value.
    """
    names = sorted((name for name in VARIANTS if rows.get(name)), key=CEILINGS.__contains__)
    figure = new_figure(13, 1.4 + 0.27 * len(names))
    for place, (axes, key) in enumerate(zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True)):
        found = {name: got for name in names if (got := estimate(rows[name], key)) is not None}
        left, right = _limits(found)
        for name, got in found.items():
            colour = BACKGROUND if name in FLOORS + CEILINGS else ACTION if name == "pal" else ACCENT
            _mark(axes, got, len(names) - names.index(name), right, colour)
        axes.set_title(FIGURES[key], fontsize=9, color=INK)
        axes.set_xlim(left, right)
        axes.set_ylim(0.4, len(names) + 0.6)
        axes.set_yticks(
            range(len(names), 0, -1), [VARIANTS[name].title for name in names] if place == 0 else []
        )
        axes.tick_params(labelsize=8, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(visible=True, alpha=0.2)
    return to_bytes(figure, "svg")


def _limits(found: Mapping[str, Estimate]) -> tuple[float, float]:
    """Return the ends of an axis: room for all but the ceilings, or for those where there is nothing else."""
    inside = [got for name, got in found.items() if name not in CEILINGS] or list(found.values())
    low, high = min((got.low for got in inside), default=0.0), max((got.high for got in inside), default=1.0)
    margin = max(0.5, 0.08 * (high - low))
    return max(0.0, low - margin), high + 3 * margin


def _mark(axes: Any, got: Estimate, height: int, right: float, colour: str) -> None:
    if got.value > right:
        text = f"{got.value:.0f} →"
        axes.text(right, height, text, color=colour, fontsize=8, ha="right", va="center")
        return
    axes.plot([got.low, min(got.high, right)], [height, height], color=colour, lw=2)
    axes.plot(got.value, height, "o", color=colour, ms=5)


def curves(rows: Mapping[str, Sequence[Measured]], batch: int) -> bytes | None:
    """Draw held-out loss and top-1 over the samples seen; None where nothing was trained."""
    trained = {name: rows[name] for name in VARIANTS if any(row.curve for row in rows.get(name, ()))}
    if not trained:
        return None
    figure = new_figure(10.5, 3.4)
    titles = {
        "val_loss": "held-out loss",
        "val_top1": "held-out top-1",
        "val_thumbnail_top1": "thumbnails' top-1",
    }
    for axes, (key, title) in zip(figure.subplots(1, len(titles)), titles.items(), strict=True):
        for number, (name, measured) in enumerate(trained.items()):
            for row in measured:
                _line(
                    axes,
                    row,
                    key,
                    batch,
                    _PALETTE[number % len(_PALETTE)],
                    name if row is measured[0] else None,
                )
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlabel("samples seen", fontsize=8, color=INK)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, alpha=0.2)
        if key == "val_top1" and axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=7)
    return to_bytes(figure, "svg")


def _line(axes: Any, row: Measured, key: str, batch: int, colour: str, name: str | None) -> None:
    points = [(step["step"] * batch, step[key]) for step in row.curve if key in step]
    if points:
        label = VARIANTS[name].title if name else None
        axes.plot(*zip(*points, strict=True), color=colour, lw=1.2, alpha=0.85, label=label)
