"""Where a long video is cut, without a video."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import UsageError
from shards.measuring.cuts import CutOptions, spans_of


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (30.0, [(0, 10), (10, 20), (20, 30)]),
        (35.0, [(0, 10), (10, 20), (20, 30), (30, 35)]),
        (34.9, [(0, 10), (10, 20), (20, 34.9)]),
        (10.0, [(0, 10)]),
        (9.0, [(0, 9)]),
        (14.0, [(0, 14)]),
        (0.7, [(0, 0.7)]),
    ],
)
def test_a_rest_of_half_a_piece_is_one_of_its_own_and_a_shorter_one_is_added(duration, expected) -> None:
    assert spans_of(duration, [], CutOptions(chunk=10)) == expected


def test_shots_are_kept_apart_and_long_ones_cut_in_equal_parts() -> None:
    assert spans_of(100, [20, 25], CutOptions(shots=True, max_seconds=30)) == [
        *((0, 20), (20, 25)),
        *((25, 50), (50, 75), (75, 100)),
    ]
    assert spans_of(22, [11], CutOptions(shots=True, chunk=4)) == [
        *((0, 4), (4, 8), (8, 11)),
        *((11, 15), (15, 19), (19, 22)),
    ]


@settings(deadline=None)
@given(
    duration=st.floats(0.1, 2_000),
    chunk=st.one_of(st.none(), st.floats(0.5, 400)),
    places=st.lists(st.floats(0.001, 0.999), max_size=30),
)
def test_spans_lie_side_by_side_from_the_start_to_the_end(duration, chunk, places) -> None:
    shots = sorted({round(place * duration, 3) for place in places})
    options = CutOptions(chunk=chunk, shots=True, max_seconds=600)
    spans = spans_of(duration, shots, options)
    assert spans[0][0] == 0
    assert spans[-1][1] == round(duration, 3)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(spans))
    longest = max(end - start for start, end in spans)
    assert longest <= (600 if chunk is None else 1.5 * chunk) + 0.002
    bounds = {0.0, *(bound for span in spans for bound in span)}
    assert all(shot in bounds for shot in shots if 0 < shot < duration)


@pytest.mark.parametrize(
    ("given_options", "said"),
    [
        ({"chunk": 0}, "--chunk 0: give seconds"),
        ({"chunk": -1}, "--chunk -1"),
        ({"chunk": 500}, "more than --max-seconds 600"),
        ({"shots": True, "shot_threshold": 0}, "--shot-threshold 0"),
    ],
)
def test_rules_that_make_no_sense_are_refused(given_options, said) -> None:
    with pytest.raises(UsageError, match=said):
        CutOptions(**given_options)
