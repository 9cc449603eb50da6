"""A report as one self-contained page; for detection with per-class table, error breakdown and reliability."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from pal_ds.pages.stylesheet import stylesheet
from pal_ds.transfer.metrics.detection import DetectionResult
from pal_ds.transfer.metrics.detection_errors import (
    KINDS,
    Breakdown,
    Reliability,
    break_down,
    hit_rows,
    reliability,
)
from pal_ds.transfer.metrics.html_plain_page import render_plain
from pal_ds.transfer.metrics.svg_plots import new_axes, to_svg
from pal_ds.transfer.metrics.tiou import threshold_name

if TYPE_CHECKING:
    from pal_ds.transfer.metrics.evaluate import Report

COLOURS = ("#2a9d5c", "#8ab6d6", "#e0a030", "#c8553d", "#8d6a9f", "#9a9a9a")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>pal-eval: {{ average }} average mAP</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{{ style | safe }}</style></head><body><main>
<h1>Temporal action detection: average mAP {{ average }}</h1>
<p class="note">{{ truths }} annotated instances of {{ classes }} classes in {{ videos }} videos;
{{ predictions }} predictions. All figures in percent.</p>
{% for warning in warnings %}<p class="warning">{{ warning }}</p>{% endfor %}
<div class="scroll figures"><table>
<thead><tr><th>tIoU</th>{% for name in thresholds %}<th>{{ name }}</th>{% endfor %}<th>average</th></tr></thead>
<tbody><tr><td>mAP</td>{% for value in means %}<td>{{ value }}</td>{% endfor %}<td>{{ average }}</td></tr></tbody>
</table></div>
<h2>What the best scored predictions are</h2>
<p class="note">Ranks in multiples of the number of annotated instances, tIoU {{ at }}.</p>
<div class="plate">{{ errors_svg | safe }}</div>
<h2>Do scores mean what they say?</h2>
<p class="note">Precision at tIoU {{ at }} in ten bins of equal size;
expected calibration error {{ calibration }}.</p>
<div class="plate">{{ reliability_svg | safe }}</div>
<h2>Classes</h2>
<div class="scroll figures"><table>
<thead><tr><th>class</th><th>instances</th><th>predictions</th><th>AP at {{ at }}</th><th>average AP</th></tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
</main></body></html>
"""


def write_page(report: Report, path: str) -> None:
    """Write a report's page.

    Args:
        report: of any task.
        path: file to write.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    Path(path).write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """Give a report's page as HTML."""
    result, truth, predictions = report.result, report.truth, report.predictions
    if not isinstance(result, DetectionResult) or truth is None or predictions is None:
        return render_plain(report)
    at = float(result.thresholds[0])
    hits = hit_rows(truth, predictions, at)
    calibrated = reliability(predictions.scores, hits)
    worst_first = result.ap_ck.mean(axis=1).argsort(kind="stable")
    rows = [
        (
            result.labels[c],
            int(result.ground_truths_c[c]),
            int(result.predictions_c[c]),
            f"{100 * result.ap_ck[c, 0]:.2f}",
            f"{100 * result.ap_ck[c].mean():.2f}",
        )
        for c in worst_first
    ]
    return (
        jinja2.Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            average=f"{result.average_map:.2f}",
            truths=f"{len(truth):,}",
            classes=len(result.labels),
            videos=f"{len(truth.videos):,}",
            predictions=f"{len(predictions):,}",
            warnings=report.warnings,
            thresholds=[threshold_name(float(value)) for value in result.thresholds],
            means=[f"{value:.2f}" for value in result.map_k],
            at=threshold_name(at),
            errors_svg=_draw_errors(break_down(truth, predictions, threshold=at)),
            calibration=f"{calibrated.error:.1f}",
            reliability_svg=_draw_reliability(calibrated),
            rows=rows,
            style=stylesheet(),
        )
    )


def _draw_errors(breakdown: Breakdown) -> str:
    figure, axes = new_axes(8.0, 3.2)
    total = breakdown.counts_sk.sum(axis=1).clip(min=1)
    names = [f"{place + 1}G" for place in range(len(total))]
    base = 0.0 * total
    for kind, (name, colour) in enumerate(zip(KINDS, COLOURS, strict=True)):
        share = 100 * breakdown.counts_sk[:, kind] / total
        axes.bar(names, share, bottom=base, color=colour, label=name)
        base = base + share
    axes.set_ylabel("share of predictions, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return to_svg(figure)


def _draw_reliability(calibrated: Reliability) -> str:
    figure, axes = new_axes(4.6, 3.6)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    axes.plot(calibrated.score_b, calibrated.precision_b, marker="o", color="#2a6f97")
    axes.set_xlabel("mean score")
    axes.set_ylabel("precision")
    axes.set_ylim(-0.02, 1.02)
    return to_svg(figure)
