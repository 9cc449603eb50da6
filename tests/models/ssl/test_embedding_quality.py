"""Quality signals: known values and the localisation of a pasted region."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.models.layers.numerics import unit
from pal_ds.models.layers.projection_heads import region_embedding
from pal_ds.models.ssl import embedding_quality


def test_feature_std_is_zero_at_collapse_and_one_over_root_d_when_spread() -> None:
    assert embedding_quality.feature_std(torch.ones(9, 4)).item() == 0.0
    spread = unit(torch.randn(20000, 16))
    assert embedding_quality.feature_std(spread).item() == pytest.approx(1 / 4, rel=0.02)
    assert embedding_quality.feature_std(torch.ones(1, 4)).item() == 0.0


def test_alignment_is_the_mean_squared_distance() -> None:
    axes = torch.eye(2)
    assert embedding_quality.alignment(axes, axes).item() == 0.0
    assert embedding_quality.alignment(axes, axes.flip(0)).item() == pytest.approx(2.0)
    assert embedding_quality.alignment(axes, -3 * axes).item() == pytest.approx(4.0)


def test_uniformity_is_zero_at_collapse_and_minus_four_for_opposites() -> None:
    assert embedding_quality.uniformity(torch.ones(5, 3)).item() == pytest.approx(0.0, abs=1e-6)
    assert embedding_quality.uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-8.0)
    right_angle = embedding_quality.uniformity(torch.eye(2)).item()
    assert right_angle == pytest.approx(-4.0)
    with pytest.raises(ValueError, match="at least 2"):
        embedding_quality.uniformity(torch.ones(1, 3))


def test_windows_are_all_there_and_longest_first() -> None:
    rows = embedding_quality.windows(8).tolist()
    assert len(rows) == 36
    assert rows[0] == [0, 8]
    assert {tuple(row) for row in rows} == {(s, n) for n in range(1, 9) for s in range(9 - n)}


@settings(max_examples=40, deadline=None)
@given(norm=st.sampled_from(["clip_and_region", "region", "clip"]), clips=st.integers(1, 8))
def test_window_embeddings_equal_region_embeddings(norm: str, clips: int) -> None:
    sequence = torch.randn(2, clips, 5)
    every = embedding_quality.windows(clips)
    found = embedding_quality.window_embeddings(sequence, norm)
    for column, window in enumerate(every):
        expected = unit(region_embedding(sequence, window.expand(2, 2), norm))
        torch.testing.assert_close(found[:, column], expected)


@settings(max_examples=60, deadline=None)
@given(
    first=st.tuples(st.integers(0, 7), st.integers(1, 8)),
    second=st.tuples(st.integers(0, 7), st.integers(1, 8)),
)
def test_iou_counts_shared_clips(first: tuple[int, int], second: tuple[int, int]) -> None:
    one, two = (set(range(start, start + length)) for start, length in (first, second))
    found = embedding_quality.region_iou(torch.tensor([first]), torch.tensor([second])).item()
    assert found == pytest.approx(len(one & two) / len(one | two))


def test_perfect_features_find_the_region_exactly() -> None:
    """Each clip of the action is a different direction, so only the whole region has its mean."""
    torch.manual_seed(3)
    action, query_region, key_region = torch.randn(3, 32), torch.tensor([[1, 3]]), torch.tensor([[4, 3]])
    query, key = torch.randn(1, 8, 32), torch.randn(1, 8, 32)
    query[0, 1:4] = action
    key[0, 4:7] = action
    vector = region_embedding(query, query_region)
    assert embedding_quality.best_window(vector, key).tolist() == [[4, 3]]
    assert embedding_quality.localisation_iou(vector, key, key_region).item() == 1.0


def test_features_without_position_score_as_the_longest_window() -> None:
    constant = torch.ones(1, 8, 4)
    region = torch.tensor([[2, 4]])
    vector = region_embedding(constant, region)
    assert embedding_quality.localisation_iou(vector, constant, region).item() == pytest.approx(0.5)


def test_chance_is_the_mean_over_windows() -> None:
    region = torch.tensor([[0, 2], [0, 1]])
    found = embedding_quality.chance_localisation_iou(region, clips=2)
    torch.testing.assert_close(found, torch.tensor([(1 + 0.5 + 0.5) / 3, (0.5 + 1 + 0) / 3]))
    assert math.isclose(found[0].item(), 2 / 3, rel_tol=1e-6)
