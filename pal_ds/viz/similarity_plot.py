"""The drawing of :mod:`pal_ds.viz.similarity`: matrices, the action marked, frames along both axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pal_ds.viz.comparison import Comparison, Version
from pal_ds.viz.similarity import SimilarityFigure
from pal_ds.viz.style import ACTION, INK, new_figure, to_bytes


def draw(figure: SimilarityFigure, *, title: str = "", kind: str = "png") -> bytes:
    """Draw all comparisons: a column per version, a row per encoder, the original's frames down the left side.

    Args:
        figure: from :func:`pal_ds.viz.similarity.similarity_figure`.
        title: above everything.
        kind: ``png``, ``svg`` or ``webp``.
    """
    columns, rows = len(figure.versions), len(figure.comparisons)
    canvas = new_figure(5.4 * columns + 1.6, 4.7 * rows + 1.2)
    grid = canvas.add_gridspec(
        rows + 1,
        columns + 1,
        height_ratios=[0.75] + [4.0] * rows,
        width_ratios=[0.62] + [5.0] * columns,
        hspace=0.42,
        wspace=0.2,
    )
    looks = f"\n({figure.altered})" if figure.altered else ""
    for column, version in enumerate(figure.versions):
        strip = canvas.add_subplot(grid[0, column + 1])
        _draw_strip(strip, version, figure.thumbnails[column + 1], upright=False)
        strip.set_title(f"Action {version.title}{looks}", fontsize=11, color=INK, pad=6)
    limit = _limit(figure)
    for row, (name, comparisons) in enumerate(figure.comparisons.items(), start=1):
        side = canvas.add_subplot(grid[row, 0])
        _draw_strip(side, figure.original, figure.thumbnails[0], upright=True)
        side.set_title("As filmed", fontsize=11, color=INK, pad=6)
        for column, comparison in enumerate(comparisons):
            axes = canvas.add_subplot(grid[row, column + 1])
            image = _draw_matrix(axes, figure, figure.versions[column], comparison, limit)
            axes.set_title(f"{name}: {describe(comparison)}", fontsize=9.5, color=INK, loc="left")
            if column == columns - 1:
                bar = canvas.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
                bar.set_label("cosine similarity" + (", mean removed" if figure.centred else ""), fontsize=9)
                bar.ax.tick_params(labelsize=8)
    if title:
        canvas.suptitle(title, fontsize=13, color=INK, y=0.97)
    return to_bytes(canvas, kind)


def describe(comparison: Comparison) -> str:
    """Return a comparison's scores in a few words."""
    if np.isnan(comparison.found):
        return f"same moments stand out by {comparison.contrast:+.2f}"
    return (
        f"action stands out by {comparison.action_contrast:+.2f},\n"
        f"{comparison.found:.0%} of its clips found again (chance {comparison.chance:.0%})"
    )


def _draw_matrix(
    axes: Any, figure: SimilarityFigure, version: Version, comparison: Comparison, limit: float
) -> Any:
    clips, others = comparison.similarity.shape
    step, half = figure.stride / figure.fps, figure.clip_frames / 2 / figure.fps
    # A cell is centred at its clip's centre.
    left, right = half - step / 2, half + (others - 0.5) * step
    top, bottom = half - step / 2, half + (clips - 0.5) * step
    image = axes.imshow(
        comparison.similarity,
        extent=(left, right, bottom, top),
        cmap="viridis",
        vmin=-limit if figure.centred else float(comparison.similarity.min()),
        vmax=limit if figure.centred else 1.0,
        aspect="auto",
        interpolation="nearest",
    )
    _mark_truth(axes, figure, version)
    first, last = (place / figure.fps for place in figure.original.action)
    moved, gone = (place / figure.fps for place in version.action)
    axes.add_patch(_rectangle(moved, first, gone - moved, last - first))
    axes.axvspan(moved, gone, ymax=0.018, color=ACTION, lw=0)
    axes.axhspan(first, last, xmax=0.018, color=ACTION, lw=0)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel("time in the changed video (s)", fontsize=9)
    axes.set_ylabel("time in the original (s)", fontsize=9)
    axes.tick_params(labelsize=8)
    return image


def _mark_truth(axes: Any, figure: SimilarityFigure, version: Version) -> None:
    """Draw a thin dashed line through the cells that show the same moment, broken at the cuts."""
    shown = version.frames.astype(np.float64)
    shown[1:][np.abs(np.diff(version.frames)) > figure.clip_frames] = np.nan
    times = (np.arange(len(shown)) + 0.5) / figure.fps
    axes.plot(times, (shown + 0.5) / figure.fps, color="white", lw=0.9, ls=(0, (2, 3)), alpha=0.9)


def _draw_strip(axes: Any, version: Version, thumbnails: Any, *, upright: bool) -> None:
    """Draw frames of a version along its own time axis, those of the action framed."""
    places, images = thumbnails
    length = len(version.frames)
    width = length / len(places)
    for number, (place, image) in enumerate(zip(places, images, strict=True)):
        low, high = number * width, (number + 1) * width
        extent = (0, 1, high, low) if upright else (low, high, 0, 1)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="bilinear")
        if version.action[0] <= place < version.action[1]:
            box = (0.02, low, 0.96, width) if upright else (low, 0.02, width, 0.96)
            axes.add_patch(_rectangle(*box))
    if upright:
        axes.axhspan(*version.action, xmin=1.06, xmax=1.16, color=ACTION, lw=0, clip_on=False)
        axes.set_ylim(length, 0)
        axes.set_xlim(0, 1)
    else:
        axes.axvspan(*version.action, ymin=-0.14, ymax=-0.05, color=ACTION, lw=0, clip_on=False)
        axes.set_xlim(0, length)
        axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _rectangle(left: float, top: float, width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), width, height, fill=False, edgecolor=ACTION, linewidth=2)


def _limit(figure: SimilarityFigure) -> float:
    everything = [
        np.abs(comparison.similarity).ravel() for row in figure.comparisons.values() for comparison in row
    ]
    return max(0.2, float(np.quantile(np.concatenate(everything), 0.995)))
