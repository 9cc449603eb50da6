"""Figures that can be reweighted, and their bootstrap over videos.

A draw gives every video a whole number: how often it was taken. The draws of a set of videos are the same for every
variant and seed, so the difference of two variants within one draw is paired: both saw the same videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Figure(Protocol):
    """Something that videos with weights have a value of."""

    def value(self, weight_v: Floats) -> float:
        """Return the figure in percent where video v counts ``weight_v[v]`` times."""


class Share:
    """A ratio of sums over videos, such as hits per segment.

    Args:
        part_v: numerator of each video.
        whole_v: denominator of each video.
    """

    def __init__(self, part_v: Sequence[float] | Floats, whole_v: Sequence[float] | Floats) -> None:
        self._part_v, self._whole_v = np.asarray(part_v, dtype=float), np.asarray(whole_v, dtype=float)

    def value(self, weight_v: Floats) -> float:
        """Return the ratio in percent; 0 where nothing counts."""
        whole = weight_v @ self._whole_v
        return float(100 * (weight_v @ self._part_v) / whole) if whole else 0.0


class RocArea:
    """Area under the ROC curve of moments of many videos, ties half.

    Args:
        score_n: of each moment. positive_n: what it should be. video_n: number of its video.
    """

    def __init__(self, score_n: Floats, positive_n: Bools, video_n: Ints) -> None:
        order = np.argsort(score_n, kind="stable")
        _, self._place_n = np.unique(score_n[order], return_inverse=True)
        self._positive_n, self._video_n = positive_n[order], video_n[order]

    def value(self, weight_v: Floats) -> float:
        """Return the area in percent; 50 where one side is empty."""
        weight_n = weight_v[self._video_n]
        positive_u, negative_u = (
            np.bincount(self._place_n, weights=weight_n * chosen)
            for chosen in (self._positive_n, ~self._positive_n)
        )
        whole = positive_u.sum() * negative_u.sum()
        if not whole:
            return 50.0
        below_u = np.cumsum(negative_u) - negative_u / 2
        return float(100 * (positive_u @ below_u) / whole)


class Precision:
    """Average precision: area under the monotone envelope of precision over recall (PASCAL VOC 2011).

    Args:
        hit_p: true-positive flags by falling score. video_p: number of each one's video.
        positive_v: how many there are to find in each video.
    """

    def __init__(self, hit_p: Bools, video_p: Ints, positive_v: Floats) -> None:
        self._hit_p, self._video_p, self._positive_v = hit_p, video_p, positive_v

    def value(self, weight_v: Floats) -> float:
        """Return AP in percent; 0 where there is nothing to find."""
        positives = weight_v @ self._positive_v
        if not positives or not len(self._hit_p):
            return 0.0
        weight_p = weight_v[self._video_p]
        taken_p = np.cumsum(weight_p)
        found_p = np.cumsum(weight_p * self._hit_p)
        precision_p = found_p / np.maximum(taken_p, 1e-12)
        envelope_p = np.maximum.accumulate(precision_p[::-1])[::-1]
        return float(100 * (envelope_p * weight_p)[self._hit_p].sum() / positives)


class Mean:
    """The mean of figures, such as of the average precisions of classes and thresholds.

    Args:
        parts: at least one.
    """

    def __init__(self, parts: Sequence[Figure]) -> None:
        self._parts = parts

    def value(self, weight_v: Floats) -> float:
        """Return the mean in percent."""
        return float(np.mean([part.value(weight_v) for part in self._parts]))


def video_draws(videos: int, draws: int = DRAWS) -> Floats:
    """Return the weights of bootstrap draws, [draws, videos]; equal for equal numbers."""
    return np.random.default_rng(videos).multinomial(videos, np.full(videos, 1 / videos), draws).astype(float)


def measure(figure: Figure, videos: int, draws: int = DRAWS) -> dict[str, float | list[float]]:
    """Return ``value`` on the videos as they are and ``draws`` on the bootstrap's, in percent."""
    drawn = [round(figure.value(weight_v), 3) for weight_v in video_draws(videos, draws)]
    return {"value": figure.value(np.ones(videos)), "draws": drawn}
