"""Recall@kx of moment retrieval, as Ego4D's Moment Queries define it: all moments of a class that a clip shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pal_ds.transfer.metrics.instances import Instances, align
from pal_ds.transfer.metrics.tiou import Floats, Ints, threshold_name, tiou

MULTIPLES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class RetrievalResult:
    """What ``pal-eval retrieval`` reports.

    Attributes:
        thresholds: tIoU thresholds [K].
        multiples: k of each row: so many answers an annotated moment are looked at [R].
        recall_rk: share of annotated moments found, in percent [R, K].
    """

    thresholds: Floats
    multiples: tuple[int, ...]
    recall_rk: Floats

    def to_json(self) -> dict[str, object]:
        """Give the object that ``--json`` prints: ``{"recall": {"1x": {"0.5": …}}}``."""
        names = [threshold_name(float(value)) for value in self.thresholds]
        rows = zip(self.multiples, self.recall_rk.tolist(), strict=True)
        return {"recall": {f"{multiple}x": dict(zip(names, row, strict=True)) for multiple, row in rows}}


def evaluate_retrieval(
    truth: Instances, predictions: Instances, thresholds: Floats, multiples: tuple[int, ...] = MULTIPLES
) -> RetrievalResult:
    """Score the answers to "when does this clip show class c?", one question for every clip and class annotated.

    Of a question with n annotated moments the k * n best scored answers count (equal scores: in the order of the
    file); a moment is found where one of them overlaps it by **more** than the threshold. One answer may find several
    moments. The official code (``MQ/Evaluation/ego4d/get_retrieval_performance.py`` of EGO4D/episodic-memory) takes
    the answers as they stand in the file, which its own writer has sorted; here they are sorted. A clip without
    answers, which ends the official code, finds none.

    Args:
        truth: annotated moments, with labels.
        predictions: scored moments, with labels.
        thresholds: tIoU thresholds [K].
        multiples: the k to report [R].

    Returns:
        Recall by k and threshold.

    Raises:
        ValueError: there is no annotated moment.
    """
    if len(truth) == 0:
        raise ValueError("the ground truth holds no annotated instance")
    aligned = align(predictions, truth)
    known = np.flatnonzero((aligned.video >= 0) & (aligned.label >= 0))
    ranked = aligned.take(known[np.argsort(-aligned.scores[known], kind="stable")])
    answers = _by_question(ranked)
    found_rk = np.zeros((len(multiples), len(thresholds)))
    for question, moments in _by_question(truth).items():
        rows = answers.get(question)
        if rows is None:
            continue
        overlap_pn = tiou(ranked.segments[rows][:, None], truth.segments[moments][None])
        for place, multiple in enumerate(multiples):
            best_n = overlap_pn[: multiple * len(moments)].max(axis=0)
            found_rk[place] += (best_n[:, None] > thresholds).sum(axis=0)
    return RetrievalResult(
        thresholds=thresholds, multiples=multiples, recall_rk=100.0 * found_rk / len(truth)
    )


def _by_question(instances: Instances) -> dict[tuple[int, int], Ints]:
    """Group rows by video and class, in their order."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, key in enumerate(zip(instances.video.tolist(), instances.label.tolist(), strict=True)):
        rows.setdefault(key, []).append(row)
    return {key: np.array(found, dtype=np.int64) for key, found in rows.items()}
