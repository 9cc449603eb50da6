"""Top-k accuracy of video classification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pal_ds.transfer.metrics.instances import Instances, align
from pal_ds.transfer.metrics.tiou import Ints

REPORTED = (1, 5)


@dataclass(frozen=True, kw_only=True)
class ClassificationResult:
    """What ``pal-eval classification`` reports.

    Attributes:
        rank_v: position (from 0) of the first right label among a video's distinct predictions [V];
            a very large number where none is right.
    """

    rank_v: Ints

    def top(self, k: int) -> float:
        """Share of videos with a right label among the k best, in percent."""
        return float(100.0 * (self.rank_v < k).mean())

    def to_json(self) -> dict[str, object]:
        """Give the object that ``--json`` prints."""
        return {f"top{k}": self.top(k) for k in REPORTED}


def evaluate_classification(truth: Instances, predictions: Instances) -> ClassificationResult:
    """Score video-level labels: a video counts as right at k when any label of its own is among the k best.

    Equal scores rank in the order of the file; a label given twice for a video counts at its better place,
    and the second doesn't use up a place. Videos without predictions are wrong.

    Args:
        truth: one row per video and label.
        predictions: scored labels.

    Returns:
        The rank of the right label per video.

    Raises:
        ValueError: there is no ground truth.
    """
    if len(truth) == 0:
        raise ValueError("the ground truth holds no label")
    known = {(int(v), truth.labels[int(c)]) for v, c in zip(truth.video, truth.label, strict=True)}
    annotated = np.unique(truth.video)
    names = predictions.labels
    label = predictions.label
    aligned = align(predictions, truth)
    ranks = dict.fromkeys(annotated.tolist(), int(np.iinfo(np.int64).max))
    order = np.lexsort((np.arange(len(aligned)), -aligned.scores, aligned.video))
    place, current, seen = 0, -1, set[int]()
    for row in order.tolist():
        video = int(aligned.video[row])
        if video != current:
            place, current, seen = 0, video, set()
        if int(label[row]) in seen:
            continue
        seen.add(int(label[row]))
        if (video, names[int(label[row])]) in known:
            ranks[video] = min(ranks[video], place)
        place += 1
    return ClassificationResult(rank_v=np.array([ranks[int(v)] for v in annotated], dtype=np.int64))
