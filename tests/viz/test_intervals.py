"""Intervals of few values: as wide as tables say, and as often wrong as they claim."""

from __future__ import annotations

import numpy as np
import pytest

from pal_ds.viz.intervals import NORMAL_99, mean_gap, student_99


@pytest.mark.parametrize(
    ("freedom", "printed"), [(3, 5.841), (4, 4.604), (5, 4.032), (10, 3.169), (30, 2.750), (1e6, 2.576)]
)
def test_quantiles_are_those_of_printed_tables(freedom: float, printed: float) -> None:
    assert student_99(freedom) == pytest.approx(printed, rel=0.01)


def test_at_most_one_interval_in_a_hundred_misses_however_few_the_values() -> None:
    draw = np.random.default_rng(0)
    missed = known = 0
    for _ in range(4000):
        first, last = draw.normal(0, 1, 4), draw.normal(0, 0.5, 12)
        low, high = mean_gap(first.tolist(), last.tolist())
        missed += not low <= 0 <= high
        half = NORMAL_99 * (first.var(ddof=1) / 4 + last.var(ddof=1) / 12) ** 0.5
        known += abs(last.mean() - first.mean()) > half
    assert 0 < missed / 4000 < 0.013
    assert known / 4000 > 0.04, "what this is for: an interval that takes the spread for known"


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert mean_gap([1.0] * 4, [3.0] * 4) == (2.0, 2.0)
