"""The charts of a training run, each drawn twice: for light and for dark pages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds.viz.style import ACCENT, ACTION, BACKGROUND, GOOD, SECOND, new_figure, to_bytes

#: More logged steps than this are averaged in equal bins before drawing, so that a long run stays a small file.
MOST_POINTS = 400
_INK = {"light": "#33414e", "dark": "#c6d0da"}
_BRIGHT = {ACCENT: "#6db3dd", ACTION: "#ee7d8b", GOOD: "#7cc58a", SECOND: "#f0bd6b", BACKGROUND: "#93a1ae"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart.

    Attributes:
        title: what is shown.
        light: SVG for light pages.
        dark: SVG for dark pages.
        see: what the reader sees, in one or two sentences.
        good: how it looks when all is well.
        bad: how it looks when something is wrong.
        text: the chart in one sentence with numbers, for readers who can't see it.
    """

    title: str
    light: bytes
    dark: bytes
    see: str
    good: str
    bad: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One line or set of points: legend name, steps, values, colour, and how it is drawn."""

    name: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    colour: str
    dashed: bool = False
    points: bool = False


def training_charts(
    rows: Sequence[Mapping[str, Any]],
    *,
    queue_size: int,
    mask_unfilled: bool,
    marks: Sequence[tuple[int, str]] = (),
) -> list[Chart]:
    """Draw what ``metrics.jsonl`` tells.

    Args:
        rows: objects of ``metrics.jsonl``; a chart whose keys are absent from all rows is left out.
        queue_size: K.
        mask_unfilled: whether only filled rows serve as negatives; decides the level of a blind guess.
        marks: step and name of events to mark by a vertical line, e.g. resumes.
    """
    train = [row for row in rows if "val_loss" not in row]
    val = [row for row in rows if "val_loss" in row]
    negatives = _negatives(train, queue_size, mask_unfilled)
    makers: list[Callable[[], Chart | None]] = [
        lambda: _loss(train, val, negatives, marks),
        lambda: _top1(train, val, negatives, marks),
        lambda: _similarity(train, marks),
        lambda: _queue(train, marks),
        lambda: _throughput(train, marks),
        lambda: _rate(train, marks),
    ]
    return [chart for make in makers if (chart := make()) is not None]


def series(
    rows: Sequence[Mapping[str, Any]],
    key: str,
    name: str,
    colour: str,
    *,
    factor: float = 1.0,
    points: bool = False,
) -> Series | None:
    """Return the finite values of ``key`` by step, averaged in bins where there are very many; None if absent."""
    pairs = [
        (float(row["step"]), factor * float(row[key]))
        for row in rows
        if row.get(key) is not None and "step" in row and math.isfinite(float(row[key]))
    ]
    if not pairs:
        return None
    steps, values = np.array(pairs).T
    if len(steps) > MOST_POINTS:
        bins = np.array_split(np.arange(len(steps)), MOST_POINTS)
        steps = np.array([steps[part].mean() for part in bins])
        values = np.array([values[part].mean() for part in bins])
    return Series(name=name, steps=steps, values=values, colour=colour, points=points)


def draw_lines(
    lines: Sequence[Series],
    *,
    ylabel: str,
    theme: str,
    marks: Sequence[tuple[int, str]] = (),
    zero: bool = False,
) -> bytes:
    """Draw lines over steps as SVG in the colours of ``theme`` (``light`` or ``dark``)."""
    ink = _INK[theme]
    figure = new_figure(5.4, 3.1)
    axes = figure.add_subplot()
    for line in lines:
        colour = _BRIGHT[line.colour] if theme == "dark" else line.colour
        if line.points:
            axes.plot(line.steps, line.values, "o", color=colour, ms=5, label=line.name, zorder=3)
        elif line.dashed:
            axes.plot(line.steps, line.values, "--", color=colour, lw=1.4, label=line.name)
        else:
            smooth = _smooth(line.values)
            crowded = len(line.values) >= 40
            axes.plot(line.steps, line.values, color=colour, lw=0.8, alpha=0.35 if crowded else 0.0)
            axes.plot(line.steps, smooth if crowded else line.values, color=colour, lw=1.9, label=line.name)
    for step, _ in marks:
        axes.axvline(step, color=ink, lw=0.8, ls=":", alpha=0.7)
    if zero:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("optimizer step", color=ink, fontsize=9)
    axes.set_ylabel(ylabel, color=ink, fontsize=9)
    axes.tick_params(colors=ink, labelsize=8)
    axes.grid(visible=True, color=ink, alpha=0.15, lw=0.6)
    for name, side in axes.spines.items():
        side.set_visible(name in {"left", "bottom"})
        side.set_color(ink)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=ink)
    return to_bytes(figure, "svg", transparent=True)


def _chart(
    title: str,
    lines: Sequence[Series | None],
    *,
    ylabel: str,
    marks: Sequence[tuple[int, str]],
    see: str,
    good: str,
    bad: str,
    zero: bool = False,
) -> Chart | None:
    present = [line for line in lines if line is not None]
    if not any(not line.dashed for line in present):
        return None
    told = "; ".join(
        f"{line.name} from {line.values[0]:.4g} to {line.values[-1]:.4g}"
        for line in present
        if not line.dashed
    )
    pictures = {
        theme: draw_lines(present, ylabel=ylabel, theme=theme, marks=marks, zero=zero) for theme in _INK
    }
    return Chart(
        title=title,
        light=pictures["light"],
        dark=pictures["dark"],
        see=see,
        good=good,
        bad=bad,
        text=f"{title}: {told}.",
    )


def _loss(train: Any, val: Any, negatives: Series | None, marks: Any) -> Chart | None:
    blind = _dashed(series(train, "chance_loss", "blind guess, training", BACKGROUND))
    if negatives is not None:
        blind = dataclasses.replace(
            negatives, name="blind guess, ln(1 + negatives)", values=np.log1p(negatives.values), dashed=True
        )
    return _chart(
        "Loss",
        [
            series(train, "loss", "training", ACCENT),
            series(val, "val_loss", "held-out clips", ACTION, points=len(val) < 60),
            blind,
            _dashed(series(val, "val_chance_loss", "blind guess, held-out", SECOND)),
        ],
        ylabel="cross-entropy, nats" if negatives is None else "InfoNCE, nats",
        marks=marks,
        see=(
            "How surprised the network is by the right answer of its task"
            if negatives is None
            else "How surprised the network is when it must pick, among many other regions, the one that shows the "
            "same action. Training picks among the keys in the queue, held-out clips among each other"
        )
        + "; dashed lines are the scores of guessing blindly. The first held-out point is the untrained network.",
        good="Both curves fall well below their dashed lines; held-out clips leave the first point behind.",
        bad="Hugging the dashed line: nothing is learned. Training falls while held-out rises: overfitting.",
    )


def _top1(train: Any, val: Any, negatives: Series | None, marks: Any) -> Chart | None:
    chance = None
    if negatives is not None:
        chance = dataclasses.replace(
            negatives, name="chance", values=100 / (1 + negatives.values), dashed=True, colour=BACKGROUND
        )
    return _chart(
        "Right picks",
        [
            series(train, "top1", "training", ACCENT, factor=100),
            series(val, "val_top1", "held-out clips", ACTION, factor=100, points=len(val) < 60),
            chance,
            _dashed(series(val, "val_chance_top1", "chance, held-out", SECOND, factor=100)),
        ],
        ylabel="top-1, percent",
        marks=marks,
        see=(
            "How often the right answer is the likeliest (top-1), with chance dashed."
            if negatives is None
            else "How often the matching region gets the highest score of all (top-1 of InfoNCE), with chance dashed."
        ),
        good="Climbs steadily and stays far above chance, on held-out clips too.",
        bad="Stays at chance, or jumps to 100 percent at once: then the task has a shortcut.",
        zero=True,
    )


def _similarity(train: Any, marks: Any) -> Chart | None:
    return _chart(
        "Matching and other pairs",
        [
            series(train, "positive_similarity", "matching regions", GOOD),
            series(train, "negative_similarity", "other regions", BACKGROUND),
            series(train, "feature_std", "spread of the features", SECOND),
        ],
        ylabel="cosine; standard deviation",
        marks=marks,
        see="Mean similarity of matching regions and of regions from other videos, and how much the features "
        "differ from video to video.",
        good="A clear gap between the first two lines, and a spread that stays away from zero.",
        bad="Both lines meet at 1 and the spread goes to 0: the network says the same of everything (collapse).",
    )


def _queue(train: Any, marks: Any) -> Chart | None:
    return _chart(
        "Queue of negatives",
        [series(train, "queue_fill", "filled", ACCENT, factor=100)],
        ylabel="percent",
        marks=marks,
        see="How much of the memory of earlier regions holds real ones.",
        good="Rises to 100 percent early and stays there, across restarts too.",
        bad="Drops after a restart: the queue was lost.",
        zero=True,
    )


def _throughput(train: Any, marks: Any) -> Chart | None:
    return _chart(
        "Speed",
        [
            series(train, "videos_per_second", "videos per second", ACCENT),
            series(train, "data_wait", "percent of a step spent waiting for data", ACTION, factor=100),
        ],
        ylabel="videos/s; percent",
        marks=marks,
        see="Videos trained on per second, and the share of time the model waited for decoded video.",
        good="A flat speed, and waiting near zero.",
        bad="Waiting is high: more loader workers or CPU cores are needed.",
        zero=True,
    )


def _rate(train: Any, marks: Any) -> Chart | None:
    highest = max((float(row["lr"]) for row in train if row.get("lr")), default=1.0)
    return _chart(
        "Steps taken by the optimizer",
        [
            series(train, "grad_norm", "gradient norm", SECOND),
            series(train, "lr", f"learning rate / {highest:.3g}", ACCENT, factor=1 / highest),
        ],
        ylabel="norm; rate",
        marks=marks,
        see="Size of the gradient and the learning rate.",
        good="The norm settles after the first steps; the rate follows its schedule.",
        bad="The norm grows without end or shows spikes that the loss shows too.",
        zero=True,
    )


def _dashed(line: Series | None) -> Series | None:
    return None if line is None else dataclasses.replace(line, dashed=True)


def _negatives(train: Sequence[Mapping[str, Any]], queue_size: int, mask_unfilled: bool) -> Series | None:
    """Return the number of negatives by step, as logged; in runs of earlier versions, what the queue held.

    None where nothing is contrasted.
    """
    if not any("positive_similarity" in row for row in train):
        return None
    logged = series(train, "negatives", "negatives", BACKGROUND)
    if logged is not None:
        return logged
    filled = series(train, "queue_fill", "negatives", BACKGROUND, factor=queue_size)
    if filled is None or queue_size < 1:
        return None
    return (
        filled
        if mask_unfilled
        else dataclasses.replace(filled, values=np.full_like(filled.values, queue_size))
    )


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a centred running mean over a twentieth of the points, shorter at the ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low), dtype=np.float64)
