"""Intervals of differences of means where few values stand behind each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Half width of a 99 % interval in standard errors, where many values stand behind it.
NORMAL_99 = 2.5758


def mean_gap(first: Sequence[float], last: Sequence[float]) -> tuple[float, float]:
    """Return a 99 % interval of ``mean(last) - mean(first)``, at least four values each.

    Student's t with as many degrees of freedom as the shorter side has: four values know their own spread badly. It
    misses at most as often as it says; Welch's degrees of freedom, estimated from these few, miss twice as often.
    """
    error = math.hypot(*(float(np.std(values, ddof=1)) / len(values) ** 0.5 for values in (first, last)))
    gain = float(np.mean(last) - np.mean(first))
    half = student_99(min(len(first), len(last)) - 1) * error
    return gain - half, gain + half


def student_99(freedom: float) -> float:
    """Return the 99.5 % quantile of Student's t, within 1 % from 3 degrees of freedom on.

    The first five terms of its expansion in 1 / freedom (Abramowitz and Stegun, 26.7.5); too small below 3.
    """
    z, v = NORMAL_99, freedom
    terms = (
        z,
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4),
    )
    return sum(terms)
