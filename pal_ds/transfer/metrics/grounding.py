"""Recall and mean overlap of video grounding (Charades-STA): one span for one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from pal_ds.transfer.metrics.tiou import Bools, Floats, threshold_name, tiou


@dataclass(frozen=True, kw_only=True)
class GroundingResult:
    """What ``pal-eval grounding`` reports.

    Attributes:
        thresholds: tIoU thresholds [K].
        overlap_q: tIoU of the best scored span of every query [Q]; 0 where there is none.
    """

    thresholds: Floats
    overlap_q: Floats

    @property
    def recall_k(self) -> Floats:
        """Share of queries with an overlap of at least each threshold, in percent [K]."""
        recall: Floats = 100.0 * (self.overlap_q[:, None] >= self.thresholds).mean(axis=0)
        return recall

    @property
    def mean_iou(self) -> float:
        """Mean overlap over all queries, in percent."""
        return float(100.0 * self.overlap_q.mean())

    def to_json(self) -> dict[str, object]:
        """Give the object that ``--json`` prints."""
        names = [threshold_name(value) for value in self.thresholds]
        return {"R@1": dict(zip(names, self.recall_k.tolist(), strict=True)), "mIoU": self.mean_iou}


def evaluate_grounding(
    truth_q2: Floats, predicted_q2: Floats, answered_q: Bools, thresholds: Floats
) -> GroundingResult:
    """Score one span per query: R@1 at each threshold (``>=``) and mIoU.

    The field's code takes the hull as the union. For spans that meet it is the union; for spans that don't,
    the intersection is empty and the overlap 0 either way.

    Args:
        truth_q2: annotated spans, seconds [Q, 2].
        predicted_q2: the best scored span of each query, seconds [Q, 2].
        answered_q: False where a query has no prediction; its overlap is 0 [Q].
        thresholds: tIoU thresholds [K].

    Returns:
        Overlaps, from which the figures follow.

    Raises:
        ValueError: there is no query.
    """
    if len(truth_q2) == 0:
        raise ValueError("the ground truth holds no query")
    return GroundingResult(thresholds=thresholds, overlap_q=tiou(predicted_q2, truth_q2) * answered_q)
