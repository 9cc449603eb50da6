"""The pages of proposals, retrieval, grounding and classification: figures, one curve, and where it goes wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from pal_ds.pages.stylesheet import stylesheet
from pal_ds.transfer.metrics.classification import ClassificationResult
from pal_ds.transfer.metrics.grounding import GroundingResult
from pal_ds.transfer.metrics.instances import Instances
from pal_ds.transfer.metrics.moment_retrieval import RetrievalResult
from pal_ds.transfer.metrics.proposals import REPORTED, ProposalResult
from pal_ds.transfer.metrics.svg_plots import new_axes, to_svg
from pal_ds.transfer.metrics.tiou import Floats, threshold_name

if TYPE_CHECKING:
    from pal_ds.transfer.metrics.evaluate import Report

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>pal-eval: {{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{{ style | safe }}</style></head><body><main>
<h1>{{ title }}</h1>
<p class="note">{{ note }} All figures in percent.</p>
{% for warning in warnings %}<p class="warning">{{ warning }}</p>{% endfor %}
{% for part in parts %}{% if part.title %}<h2>{{ part.title }}</h2>{% endif %}
{% if part.note %}<p class="note">{{ part.note }}</p>{% endif %}
{% if part.svg %}<div class="plate">{{ part.svg | safe }}</div>{% endif %}
{% if part.rows %}<div class="scroll figures"><table>
<thead><tr>{% for cell in part.header %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in part.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endif %}
{% endfor %}</main></body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a page: heading, a line, a drawing, a table; each may be empty."""

    title: str = ""
    note: str = ""
    svg: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()


def render_plain(report: Report) -> str:
    """Give the page of a report on proposals, retrieval, grounding or classification as HTML.

    Raises:
        ImportError: matplotlib isn't installed.
        ValueError: the report is of another task.
    """
    result, truth = report.result, report.truth
    if isinstance(result, ProposalResult) and truth is not None:
        title = f"Action proposals: AUC {result.auc:.2f}"
        note = f"{len(truth):,} annotated instances in {len(truth.videos):,} videos."
        parts = _proposals(result)
    elif isinstance(result, RetrievalResult) and truth is not None:
        title = "Moment retrieval"
        note = f"{len(truth):,} annotated moments of {len(truth.labels):,} classes in {len(truth.videos):,} videos."
        parts = [_retrieval(result)]
    elif isinstance(result, GroundingResult):
        title = f"Video grounding: mIoU {result.mean_iou:.2f}"
        note = f"{len(result.overlap_q):,} queries, the best scored span of each."
        parts = _grounding(result)
    elif isinstance(result, ClassificationResult) and truth is not None and report.predictions is not None:
        title = f"Classification: top-1 {result.top(1):.2f}, top-5 {result.top(5):.2f}"
        note = f"{len(result.rank_v):,} videos of {len(truth.labels):,} classes."
        parts = _classification(result, truth, report.predictions)
    else:
        raise ValueError(f"no page for task {report.task!r}")
    return (
        jinja2.Environment(autoescape=True)
        .from_string(PAGE)
        .render(title=title, note=note, warnings=report.warnings, parts=parts, style=stylesheet())
    )


def _proposals(result: ProposalResult) -> list[Part]:
    figure, axes = new_axes(7.0, 3.8)
    shades = np.linspace(0.25, 0.85, len(result.thresholds))
    for threshold, recall, shade in zip(result.thresholds, 100 * result.recall_ka, shades, strict=True):
        grey = str(round(float(shade), 3))
        axes.plot(result.average_number_a, recall, color=grey, lw=0.9, label=threshold_name(float(threshold)))
    axes.plot(result.average_number_a, result.average_recall_a, color="#c8553d", lw=2.2, label="mean")
    axes.set_xlabel("proposals per video")
    axes.set_ylabel("recall, %")
    axes.set_ylim(0, 100)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title="tIoU")
    rows = tuple(
        (threshold_name(float(threshold)), *(f"{100 * recall[number - 1]:.2f}" for number in REPORTED))
        for threshold, recall in zip(result.thresholds, result.recall_ka, strict=True)
    )
    mean = ("mean", *(f"{result.average_recall_a[number - 1]:.2f}" for number in REPORTED))
    header = ("tIoU", *(f"AR@{number}" for number in REPORTED))
    return [
        Part(header=header, rows=(*rows, mean)),
        Part(title="Recall against the number of proposals", svg=to_svg(figure)),
    ]


def _retrieval(result: RetrievalResult) -> Part:
    rows = tuple(
        (f"Recall@{multiple}x", *(f"{value:.2f}" for value in row))
        for multiple, row in zip(result.multiples, result.recall_rk, strict=True)
    )
    header = ("answers an annotated moment", *(threshold_name(float(tiou)) for tiou in result.thresholds))
    return Part(header=header, rows=rows)


def _grounding(result: GroundingResult) -> list[Part]:
    rows = tuple(
        (f"R@1, tIoU {threshold_name(float(tiou))}", f"{value:.2f}")
        for tiou, value in zip(result.thresholds, result.recall_k, strict=True)
    )
    return [
        Part(header=("figure", "%"), rows=(*rows, ("mIoU", f"{result.mean_iou:.2f}"))),
        Part(
            title="Overlaps",
            note="Queries by the overlap of their span with the annotated one.",
            svg=_histogram(result.overlap_q, "overlap (tIoU)", "queries"),
        ),
    ]


def _classification(result: ClassificationResult, truth: Instances, predictions: Instances) -> list[Part]:
    first = {
        int(video): int(label) for video, label in zip(truth.video[::-1], truth.label[::-1], strict=True)
    }
    label_v = np.array([first[int(video)] for video in np.unique(truth.video)])
    rows = []
    for number, name in enumerate(truth.labels):
        mine = label_v == number
        if mine.any():
            right = [100 * (result.rank_v[mine] < k).mean() for k in (1, 5)]
            rows.append((name, int(mine.sum()), *(round(float(value), 1) for value in right)))
    rows.sort(key=lambda row: (row[2], row[0]))
    confusions = Counter(
        (truth.labels[first[video]], guess)
        for video, guess in _best_guesses(truth, predictions).items()
        if truth.labels[first[video]] != guess
    )
    mistaken = tuple((wanted, guess, count) for (wanted, guess), count in confusions.most_common(15))
    return [
        Part(title="Classes", header=("class", "videos", "top-1", "top-5"), rows=tuple(rows)),
        Part(title="Taken for another", header=("class", "taken for", "videos"), rows=mistaken),
    ]


def _best_guesses(truth: Instances, predictions: Instances) -> dict[int, str]:
    """Name the best scored label of every annotated video."""
    number = {name: index for index, name in enumerate(truth.videos)}
    best: dict[int, tuple[float, str]] = {}
    for video, label, score in zip(predictions.video, predictions.label, predictions.scores, strict=True):
        known = number.get(predictions.videos[int(video)])
        if known is not None and (known not in best or score > best[known][0]):
            best[known] = (float(score), predictions.labels[int(label)])
    return {video: label for video, (_, label) in best.items()}


def _histogram(values: Floats, across: str, up: str) -> str:
    figure, axes = new_axes(6.0, 3.2)
    axes.hist(values, bins=np.linspace(0, 1, 21), color="#2a6f97")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return to_svg(figure)
