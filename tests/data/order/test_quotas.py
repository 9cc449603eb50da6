import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.data.order.quotas import Dealing, apportion


@given(st.integers(0, 10**7), st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_shares_add_up_and_are_exact_to_rounding(total, weights):
    found = apportion(total, weights)
    assert sum(found) == total
    for share, weight in zip(found, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1 + 1e-6


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, [1, 1, 1], (4, 3, 3)),
        (10, [2, 1], (7, 3)),
        (7, [0.5, 0.25, 0.25], (3, 2, 2)),
        (0, [1, 2], (0, 0)),
    ],
)
def test_the_largest_remainder_is_served_first(total, weights, expected):
    assert apportion(total, weights) == expected


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(lambda quotas: sum(quotas) > 0))
@settings(max_examples=150, deadline=None)
def test_every_unit_is_dealt_once_and_no_source_runs_ahead(quotas):
    dealing, units = Dealing(quotas), sum(quotas)
    before = dealing.before(np.arange(units + 1))
    assert (before.sum(axis=0) == np.arange(units + 1)).all()
    assert before[:, 0].tolist() == [0] * len(quotas)
    assert before[:, -1].tolist() == quotas
    steps = np.diff(before, axis=1)
    assert ((steps == 0) | (steps == 1)).all()
    exact = np.outer(quotas, np.arange(units + 1)) / units
    assert np.abs(before - exact).max() < len(quotas)
