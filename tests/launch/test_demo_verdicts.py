"""What the demonstration says of its figures: a difference only where there is one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import footage
from launch.demo import localize


def probed(gain: float, low: float, high: float) -> dict[str, Any]:
    row = {"within": 55.0, "within_interval": (50.0, 60.0), "pooled": 52.0}
    return {
        "videos": 24,
        "control": localize.UNTRAINED,
        "features": {
            localize.TRAINED: {**row, "gain": gain, "gain_interval": (low, high)},
            localize.UNTRAINED: row,
        },
    }


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.0, 9.0, "better than untrained"),
        (-1.0, 9.0, "no difference shown"),
        (-9.0, -1.0, "worse than untrained"),
    ],
)
def test_the_probe_counts_only_beyond_its_interval(low: float, high: float, verdict: str) -> None:
    section, lines = localize.describe_probe(probed((low + high) / 2, low, high))
    assert verdict in section.text
    assert lines[-1].endswith(verdict)
    assert section.table is not None
    assert [row[0] for row in section.table.rows] == ["trained", "untrained"]


def detected(trained: list[float], untrained: list[float]) -> dict[str, list[dict[str, Any]]]:
    def one(value: float) -> dict[str, Any]:
        return {
            "figures": {"tiou": [0.3, 0.5], "mAP": [value + 1, value - 1], "average_mAP": value},
            "losses": [2.5, 1.5],
        }

    return {
        localize.TRAINED: [one(value) for value in trained],
        localize.UNTRAINED: [one(value) for value in untrained],
    }


@pytest.mark.parametrize(
    ("trained", "untrained", "verdict"),
    [
        ([20, 21, 22], [15, 16, 19], "trained is above untrained with every seed"),
        ([18, 25, 30], [15, 16, 19], "no difference beyond the seeds"),
        ([10, 11, 12], [15, 16, 19], "trained is below untrained with every seed"),
    ],
)
def test_detection_counts_only_beyond_the_seeds(
    trained: list[float], untrained: list[float], verdict: str
) -> None:
    section, lines = localize.describe_detection(detected(trained, untrained))
    assert verdict in section.text
    assert lines[-1] == verdict
    assert "head's loss 2.50 to 1.50" in lines[0]


@given(st.floats(0.5, 200))
def test_clips_of_a_recording_do_not_overlap(seconds: float) -> None:
    spans = list(footage.spans(seconds))
    assert spans[0][0] == 0
    assert all(0 < end - start <= footage.CLIP_SECONDS for start, end in spans)
    assert all(after[0] == before[1] for before, after in itertools.pairwise(spans))
    assert seconds - spans[-1][1] < footage.CLIP_SECONDS
