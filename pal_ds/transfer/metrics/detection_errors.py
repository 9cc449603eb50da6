"""Where detections go wrong: kinds of error among the best scored, and whether scores mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pal_ds.transfer.metrics.detection import overlapping_pairs, true_positives
from pal_ds.transfer.metrics.instances import Instances, align
from pal_ds.transfer.metrics.tiou import Bools, Floats, Ints

KINDS = ("true positive", "double detection", "wrong label", "localization", "confusion", "background")
BACKGROUND_TIOU = 0.1


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Kinds of prediction among the best scored.

    Attributes:
        counts_sk: predictions per slice and kind [S, 6]; slice s holds the ranks s·G to (s + 1)·G, with G
            the number of annotated instances; kinds as in ``KINDS``.
        threshold: tIoU from which a prediction is a hit.
    """

    counts_sk: Ints
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Scores against how often they are right.

    Attributes:
        score_b: mean score per bin [B]; bins hold equally many predictions.
        precision_b: share of true positives per bin [B].
        count_b: predictions per bin [B].
        error: mean distance of the two, weighted by count (expected calibration error), in percent.
    """

    score_b: Floats
    precision_b: Floats
    count_b: Ints
    error: float


def hit_rows(truth: Instances, predictions: Instances, threshold: float) -> Bools:
    """Say for every prediction, in the order given, whether it's a true positive at one threshold [N]."""
    predictions = align(predictions, truth)
    hits = np.zeros(len(predictions), dtype=bool)
    for label in range(len(truth.labels)):
        rows = np.flatnonzero(predictions.label == label)
        if len(rows):
            rows = rows[np.argsort(-predictions.scores[rows], kind="stable")]
            targets = truth.take(np.flatnonzero(truth.label == label))
            hits[rows] = true_positives(targets, predictions.take(rows), np.array([threshold]))[0]
    return hits


def break_down(
    truth: Instances, predictions: Instances, *, threshold: float = 0.5, slices: int = 10
) -> Breakdown:
    """Sort the best scored predictions into kinds of error (DETAD, Alwassel et al., ECCV 2018).

    With ``t`` the threshold and 0.1 as the bound to background: *double detection* overlaps an instance of
    its class by ``t`` or more that a better one took; *wrong label* overlaps one of another class by ``t`` or
    more; *localization* and *confusion* overlap one of its own or another class by 0.1 to ``t``; the rest is
    *background*.

    Args:
        truth: annotated instances.
        predictions: scored instances.
        threshold: tIoU from which a prediction is a hit.
        slices: how many times the number of annotated instances is looked at.
    """
    hits = hit_rows(truth, predictions, threshold)
    best = np.argsort(-predictions.scores, kind="stable")[: slices * len(truth)]
    chosen = align(predictions, truth).take(best)
    same, other = np.zeros(len(chosen)), np.zeros(len(chosen))
    for rank, target, overlap in overlapping_pairs(truth, chosen, BACKGROUND_TIOU):
        alike = chosen.label[rank] == truth.label[target]
        np.maximum.at(same, rank[alike], overlap[alike])
        np.maximum.at(other, rank[~alike], overlap[~alike])
    conditions = [
        hits[best],
        same >= threshold,
        other >= threshold,
        same >= BACKGROUND_TIOU,
        other >= BACKGROUND_TIOU,
    ]
    kind = np.select(conditions, list(range(5)), default=5)
    place = np.arange(len(chosen)) // max(len(truth), 1)
    counts = np.zeros((slices, len(KINDS)), dtype=np.int64)
    np.add.at(counts, (place, kind), 1)
    return Breakdown(counts_sk=counts, threshold=threshold)


def reliability(scores_n: Floats, hits_n: Bools, *, bins: int = 10) -> Reliability:
    """Compare scores with precision in bins of equal size.

    Args:
        scores_n: confidences [N].
        hits_n: true-positive flags [N].
        bins: number of bins; fewer where there are fewer predictions.
    """
    order = np.argsort(scores_n, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    score = np.array([scores_n[part].mean() for part in parts])
    precision = np.array([hits_n[part].mean() for part in parts])
    count = np.array([len(part) for part in parts], dtype=np.int64)
    error = float(100 * (np.abs(score - precision) * count).sum() / max(count.sum(), 1))
    return Reliability(score_b=score, precision_b=precision, count_b=count, error=error)
