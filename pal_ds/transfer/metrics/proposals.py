"""Average recall of class-agnostic proposals against their average number (ActivityNet's proposal task)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pal_ds.transfer.metrics.instances import Instances, align
from pal_ds.transfer.metrics.tiou import Floats, Ints, tiou

MAX_AVERAGE_NUMBER = 100
REPORTED = (1, 5, 10, 100)


@dataclass(frozen=True, kw_only=True)
class ProposalResult:
    """What ``pal-eval proposals`` reports.

    Attributes:
        thresholds: tIoU thresholds [K].
        recall_ka: recall in [0, 1] per threshold and percentage 1 to 100 of what is retrieved [K, 100].
        average_number_a: proposals per video at each percentage [100].
    """

    thresholds: Floats
    recall_ka: Floats
    average_number_a: Floats

    @property
    def average_recall_a(self) -> Floats:
        """Mean over thresholds at each percentage, in percent [100]."""
        mean: Floats = 100.0 * self.recall_ka.mean(axis=0)
        return mean

    @property
    def auc(self) -> float:
        """Area under AR over AN, divided by the largest AN, in percent."""
        if self.average_number_a[-1] == 0.0:
            return 0.0
        area = np.trapezoid(self.average_recall_a, self.average_number_a)
        return float(area / self.average_number_a[-1])

    def to_json(self) -> dict[str, object]:
        """Give the object that ``--json`` prints."""
        recall = self.average_recall_a
        return {"AR": {str(number): float(recall[number - 1]) for number in REPORTED}, "AUC": self.auc}


def evaluate_proposals(truth: Instances, proposals: Instances, thresholds: Floats) -> ProposalResult:
    """Score proposals as the official evaluator does; labels play no part.

    The budget of 100 proposals a video on average is spread over the videos in proportion to how many each
    has in the file, proposals on videos without ground truth included in the file's total. Within a video the
    best scored are kept (equal scores: in the order of the file). Column ``a`` of the recall uses the first
    ``a`` percent of what each video keeps, rounded down; an annotated instance is recalled when any of them
    overlaps it by at least the threshold.

    Args:
        truth: annotated instances.
        proposals: scored instances.
        thresholds: tIoU thresholds [K].

    Returns:
        The recall table.

    Raises:
        ValueError: there is no ground truth.
    """
    if len(truth) == 0:
        raise ValueError("the ground truth holds no annotated instance")
    proposals = align(proposals, truth)
    annotated = np.unique(truth.video)
    kept, firsts = _first_hits(truth, proposals, annotated, thresholds)
    total = int(kept.sum())
    if total == 0:
        nothing = np.zeros(MAX_AVERAGE_NUMBER)
        return ProposalResult(
            thresholds=thresholds,
            recall_ka=np.zeros((len(thresholds), MAX_AVERAGE_NUMBER)),
            average_number_a=nothing,
        )
    # The order of these products is the official code's: 100 × 0.29 must round down to 28 as it does there.
    share_a = np.arange(1, 101) / 100.0 * (MAX_AVERAGE_NUMBER * float(len(annotated)) / total)
    found_ka = np.zeros((len(thresholds), len(share_a)))
    for size, first_kg in zip(kept, firsts, strict=True):
        budget_a = np.minimum((size * share_a).astype(np.int64), size)
        found_ka += (first_kg[:, :, None] < budget_a).sum(axis=1)
    return ProposalResult(
        thresholds=thresholds,
        recall_ka=found_ka / len(truth),
        average_number_a=share_a * (float(total) / len(annotated)),
    )


def _first_hits(
    truth: Instances, proposals: Instances, annotated: Ints, thresholds: Floats
) -> tuple[Ints, list[Ints]]:
    """Per annotated video: how many proposals it keeps, and the first that hits each instance [K, G]."""
    ratio = MAX_AVERAGE_NUMBER * float(len(annotated)) / max(len(proposals), 1)
    # One sort for all videos: by video, then by falling score, then by the order of the file.
    by_video = np.lexsort((np.arange(len(proposals)), -proposals.scores, proposals.video))
    begin = np.searchsorted(proposals.video[by_video], annotated, side="left")
    end = np.searchsorted(proposals.video[by_video], annotated, side="right")
    targets = np.argsort(truth.video, kind="stable")
    target_begin = np.searchsorted(truth.video[targets], annotated, side="left")
    target_end = np.searchsorted(truth.video[targets], annotated, side="right")
    kept = np.zeros(len(annotated), dtype=np.int64)
    firsts = []
    for row in range(len(annotated)):
        have = int(end[row] - begin[row])
        kept[row] = min(int(have * ratio), have)
        guesses = by_video[begin[row] : begin[row] + kept[row]]
        instances = targets[target_begin[row] : target_end[row]]
        overlap_gp = tiou(proposals.segments[guesses][None], truth.segments[instances][:, None])
        hit_kgp = overlap_gp[None] >= thresholds[:, None, None]
        never = np.int64(np.iinfo(np.int64).max)
        if kept[row]:
            firsts.append(np.where(hit_kgp.any(axis=2), hit_kgp.argmax(axis=2), never))
        else:
            firsts.append(np.full((len(thresholds), len(instances)), never))
    return kept, firsts
