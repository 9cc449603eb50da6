"""Which rank is told of as too slow, from own times alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal_ds.config import ConfigError, LogConfig
from pal_ds.training.logging.stragglers import Straggler, Stragglers

SLOW = [1.0, 1.0, 2.0, 1.0]
EVEN = [1.0, 1.1, 1.2, 1.0]


def test_a_row_names_the_slowest_and_the_median() -> None:
    assert Stragglers.row(SLOW) == {
        "slowest_rank": 2,
        "slowest_rank_seconds": 2.0,
        "median_rank_seconds": 1.0,
    }
    assert Stragglers.row([3.0, 1.0])["median_rank_seconds"] == 1.0
    assert Stragglers.row([1.0, 1.0])["slowest_rank"] == 0


def test_a_rank_is_told_of_once_until_it_has_kept_up() -> None:
    watch = Stragglers(factor=1.5, rows=3)
    told = [watch.see(seconds) for seconds in [SLOW] * 5 + [EVEN] + [SLOW] * 3]
    assert [place for place, found in enumerate(told) if found] == [2, 8]
    assert told[2] == Straggler(rank=2, seconds=2.0, median=1.0, rows=3)


def test_rows_of_another_rank_do_not_count() -> None:
    watch = Stragglers(factor=1.5, rows=2)
    other = [2.0, 1.0, 1.0, 1.0]
    assert [watch.see(seconds) for seconds in (SLOW, other, SLOW, other)] == [None] * 4


def test_nobody_is_told_of_where_it_is_off() -> None:
    watch = Stragglers(factor=0, rows=1)
    assert watch.see(SLOW) is None


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_nobody_is_slower_than_the_slowest_nor_the_median(seconds: list[float]) -> None:
    row = Stragglers.row(seconds)
    assert row["slowest_rank_seconds"] == max(seconds)
    below = sum(second <= row["median_rank_seconds"] for second in seconds)
    assert 2 * below >= len(seconds)


def test_rows_without_a_factor_have_no_effect() -> None:
    assert LogConfig(straggler_factor=0).straggler_factor == 0
    with pytest.raises(
        ConfigError, match=r"log\.straggler_rows = 5: has no effect with log\.straggler_factor=0"
    ):
        LogConfig(straggler_factor=0, straggler_rows=5)


@pytest.mark.parametrize(("name", "value"), [("straggler_factor", 1.0), ("straggler_rows", 0)])
def test_settings_that_mean_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"log\.{name}"):
        LogConfig(**{name: value})
