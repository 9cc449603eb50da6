"""Average precision of temporal action detection, as ActivityNet and THUMOS'14 define it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pal_ds.transfer.metrics.instances import Instances, align
from pal_ds.transfer.metrics.tiou import Bools, Floats, Ints, tiou

PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """What ``pal-eval detection`` reports.

    Attributes:
        thresholds: tIoU thresholds [K].
        labels: class names, those of the ground truth, sorted.
        ap_ck: average precision in [0, 1], per class and threshold [C, K].
        ground_truths_c: annotated instances per class [C].
        predictions_c: predictions per class [C].
    """

    thresholds: Floats
    labels: tuple[str, ...]
    ap_ck: Floats
    ground_truths_c: Ints
    predictions_c: Ints

    @property
    def map_k(self) -> Floats:
        """Mean over classes at each threshold, in percent [K]."""
        mean: Floats = 100.0 * self.ap_ck.mean(axis=0)
        return mean

    @property
    def average_map(self) -> float:
        """Mean over thresholds, in percent."""
        return float(self.map_k.mean())

    def to_json(self) -> dict[str, object]:
        """Give the object that ``--json`` prints."""
        return {
            "mAP": [float(value) for value in self.map_k],
            "tiou": [round(float(value), 6) for value in self.thresholds],
            "average_mAP": self.average_map,
        }


def evaluate_detection(truth: Instances, predictions: Instances, thresholds: Floats) -> DetectionResult:
    """Score detections as the official evaluator does.

    Per class, predictions are taken by falling score (equal scores: in the order of the file); each is a true
    positive when, of the instances of its video and class not taken yet, the one it overlaps most (equal
    overlaps: the first of the file) is overlapped by at least the threshold. AP is the area under the
    monotone envelope of precision over recall (PASCAL VOC 2011), mAP its mean over the annotated classes.
    A prediction on a video without ground truth is a false positive; one of an unknown class counts nowhere.

    Args:
        truth: annotated instances, with labels.
        predictions: scored instances, with labels.
        thresholds: tIoU thresholds [K].

    Returns:
        Average precision per class and threshold.

    Raises:
        ValueError: there is no ground truth.
    """
    if len(truth) == 0:
        raise ValueError("the ground truth holds no annotated instance")
    predictions = align(predictions, truth)
    order = np.argsort(truth.label, kind="stable")
    truth_at = np.searchsorted(truth.label[order], np.arange(len(truth.labels) + 1))
    predicted = np.argsort(predictions.label, kind="stable")
    predicted_at = np.searchsorted(predictions.label[predicted], np.arange(len(truth.labels) + 1))
    ap_ck = np.zeros((len(truth.labels), len(thresholds)))
    for label in range(len(truth.labels)):
        targets = truth.take(order[truth_at[label] : truth_at[label + 1]])
        guesses = predictions.take(predicted[predicted_at[label] : predicted_at[label + 1]])
        hits_kp = true_positives(targets, guesses, thresholds)
        ap_ck[label] = [average_precision(hits, len(targets)) for hits in hits_kp]
    return DetectionResult(
        thresholds=thresholds,
        labels=truth.labels,
        ap_ck=ap_ck,
        ground_truths_c=np.diff(truth_at),
        predictions_c=np.diff(predicted_at),
    )


def true_positives(targets: Instances, guesses: Instances, thresholds: Floats) -> Bools:
    """Say which predictions of one class are true positives.

    Args:
        targets: annotated instances of the class.
        guesses: predictions of the class, video numbers shared with ``targets``.
        thresholds: tIoU thresholds [K].

    Returns:
        Flags [K, P], predictions by falling score.
    """
    order = np.argsort(-guesses.scores, kind="stable")
    guesses = guesses.take(order)
    parts = list(overlapping_pairs(targets, guesses, float(thresholds.min())))
    rank_m = np.concatenate([part[0] for part in parts])
    target_m = np.concatenate([part[1] for part in parts])
    overlap_m = np.concatenate([part[2] for part in parts])
    preferred = np.lexsort((target_m, -overlap_m, rank_m))
    rank_m, target_m, overlap_m = rank_m[preferred], target_m[preferred], overlap_m[preferred]
    hits_kp = np.zeros((len(thresholds), len(guesses)), dtype=bool)
    for row, threshold in zip(hits_kp, thresholds, strict=True):
        enough = overlap_m >= threshold
        row[match(rank_m[enough], target_m[enough], len(targets))] = True
    return hits_kp


def match(rank_m: Ints, target_m: Ints, targets: int) -> Ints:
    """Match predictions to targets one to one, in order of rank, each to its most preferred free target.

    Sequential choice by rank is the stable matching in which every target prefers the better rank. So it is
    found in rounds over whole arrays: every prediction asks its most preferred target that may still take it,
    a target keeps the best that asked, and all worse pairs of that target fall away.

    Args:
        rank_m: rank of the prediction of each candidate pair, ascending; most preferred target first [M].
        target_m: its target [M].
        targets: number of targets.

    Returns:
        Ranks of the matched predictions, ascending.
    """
    while True:
        asks = np.ones(len(rank_m), dtype=bool)
        asks[1:] = rank_m[1:] != rank_m[:-1]
        asking, asked = rank_m[asks], target_m[asks]
        keeper = np.full(targets, np.iinfo(np.int64).max)
        keeper[asked[::-1]] = asking[::-1]
        alive = rank_m <= keeper[target_m]
        if alive.all():
            return asking
        rank_m, target_m = rank_m[alive], target_m[alive]


def average_precision(hits_p: Bools, positives: int) -> float:
    """Area under the monotone envelope of precision over recall (PASCAL VOC 2011).

    Args:
        hits_p: true-positive flags by falling score [P].
        positives: number of annotated instances.

    Returns:
        AP in [0, 1]; 0 without predictions.
    """
    found = np.cumsum(hits_p)
    precision = found / np.arange(1, len(hits_p) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall rises by one instance at every hit and nowhere else.
    return float(envelope[hits_p].sum() / positives)


def overlapping_pairs(
    targets: Instances, guesses: Instances, least: float
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Yield (rank, target, overlap) of all pairs of a video that overlap by ``least`` or more, in blocks."""
    by_video = np.argsort(targets.video, kind="stable")
    sorted_video = targets.video[by_video]
    first = np.searchsorted(sorted_video, guesses.video, side="left")
    count = np.searchsorted(sorted_video, guesses.video, side="right") - first
    ends = np.cumsum(count)
    empty = np.zeros(0, dtype=np.int64)
    yield empty, empty, np.zeros(0)
    begin = 0
    while begin < len(guesses):
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
        sizes = count[begin:stop]
        rank = np.repeat(np.arange(begin, stop), sizes)
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        target = by_video[np.repeat(first[begin:stop], sizes) + within]
        overlap = tiou(guesses.segments[rank], targets.segments[target], equal_empty=True)
        enough = overlap >= least
        yield rank[enough], target[enough], overlap[enough]
        begin = stop
