"""Soft non-maximum suppression with a Gaussian (Bodla et al., ICCV 2017), in one dimension."""

from __future__ import annotations

import numpy as np

from pal_ds.transfer.metrics.tiou import Floats, tiou


def soft_nms(
    segments_n2: Floats, scores_n: Floats, *, sigma: float, keep: int, low: float = 0.0, high: float = 0.0
) -> tuple[Floats, Floats]:
    """Take segments by falling score; each lowers the scores of what overlaps it by ``exp(-tIoU² / sigma)``.

    Only overlaps above ``low + (high - low) * length`` of the taken segment are lowered: 0 and 0 lower every
    overlap (G-TAD); 0.5 and 0.9, lengths being shares of the video, is BSN's and BMN's rule.

    Args:
        segments_n2: candidates; shares of the covered time where ``high`` differs from ``low`` [N, 2].
        scores_n: their scores, not negative [N].
        sigma: width of the Gaussian.
        keep: how many to take at most.
        low: bound of the overlap for a segment of length 0.
        high: bound of the overlap for a segment of length 1.

    Returns:
        Taken segments [M, 2] and their lowered scores [M], in the order taken: scores don't rise.
    """
    left, score = segments_n2.copy(), scores_n.astype(np.float64, copy=True)
    taken = min(keep, len(score))
    kept_segments, kept_scores = np.zeros((taken, 2)), np.zeros(taken)
    for place in range(taken):
        best = int(score.argmax())
        kept_segments[place], kept_scores[place] = left[best], score[best]
        overlap = tiou(left, left[best])
        bound = low + (high - low) * (left[best, 1] - left[best, 0])
        score = np.where(overlap > bound, score * np.exp(-np.square(overlap) / sigma), score)
        score[best] = -1.0
    return kept_segments, kept_scores
