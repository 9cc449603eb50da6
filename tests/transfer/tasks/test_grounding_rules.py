"""LGI's own rules for what is sampled of a long video and where attention is guided to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pal_ds.transfer.tasks.grounding import inside_span, pick_segments


def released_indices(features: int, segments: int, offset: int) -> list[int]:
    """Indices that LGI's release takes, one by one; Python rounds halves to even as numpy does."""
    stride = features / segments
    return [round(offset + number * stride) for number in range(segments)]


def released_offsets(features: int, segments: int) -> list[int]:
    """Offsets that its training draws from: whole numbers up to stride - 0.5, that end left out if whole."""
    last = features / segments - 0.5
    last = last - 1 if last == math.floor(last) else last
    return list(range(int(last) + 1))


@pytest.mark.parametrize("features", [5, 9, 12, 13, 16, 20, 27, 40, 41])
def test_segments_of_long_videos_are_those_of_the_release(features: int) -> None:
    values = np.arange(features, dtype=np.float32)[:, None]
    if features <= 8:
        assert pick_segments(values, 8, None) is values
        return
    assert pick_segments(values, 8, None)[:, 0].tolist() == released_indices(features, 8, 0)
    generator = torch.Generator().manual_seed(0)
    drawn = {tuple(pick_segments(values, 8, generator)[:, 0].astype(int).tolist()) for _ in range(60)}
    assert drawn == {tuple(released_indices(features, 8, offset)) for offset in released_offsets(features, 8)}


def test_offsets_at_one_and_a_half_and_two_features_a_segment() -> None:
    assert (released_offsets(12, 8), released_offsets(16, 8)) == ([0], [0, 1])


@pytest.mark.parametrize(
    ("span", "count", "inside"),
    [
        ((0.26, 0.74), 10, [3, 4, 5, 6, 7]),  # 2.6 and 7.4 are nearest to 3 and 7
        ((0.25, 0.35), 10, [2, 3, 4]),  # halves go to the even one: 2 and 4
        ((0.5, 0.5), 10, [5, 6]),  # at least two
        ((0.99, 1.0), 10, [9, 10]),  # one segment of padding
        ((0.99, 1.0), 12, [11]),  # none is left behind the last one
    ],
)
def test_guided_segments_are_those_of_the_release(
    span: tuple[float, float], count: int, inside: list[int]
) -> None:
    found = inside_span(torch.tensor([span]), torch.tensor([count]), 12)
    assert torch.nonzero(found[0]).flatten().tolist() == inside
