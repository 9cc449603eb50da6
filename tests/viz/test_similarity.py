"""Rearranged videos and their scores: the truth is known, so perfect and blind encoders have known results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pal_ds.viz.similarity import MIRRORED, arrange, default_versions, similarity_figure
from pal_ds.viz.similarity_plot import draw


def clock(frames: int = 240, size: int = 16) -> Tensor:
    """Frames that show their own number: a bright column that moves, and brightness that grows."""
    video = torch.zeros(frames, 3, size, size, dtype=torch.uint8)
    for number in range(frames):
        video[number] = number
    return video


def read_clock(clips: Tensor) -> Tensor:
    """Encode a clip by the moment it shows: a bump on a circle, so that near moments look alike."""
    moment = clips.float().mean(dim=(1, 2, 3, 4)) / 240
    angles = torch.arange(24) / 24
    return torch.exp(-((moment[:, None] - angles) ** 2) / 0.002)


@given(st.integers(40, 400), st.integers(0, 300), st.integers(1, 300), st.floats(0.25, 4), st.floats(0, 1))
def test_arrangement_keeps_the_background_and_resamples_the_action(
    frames: int, start: int, length: int, speed: float, position: float
) -> None:
    start = min(start, frames - 2)
    end = min(start + length, frames if start else frames - 1)
    version = arrange(frames, (start, end), speed=speed, position=position)
    first, last = version.action
    inside = version.frames[first:last]
    outside = np.concatenate([version.frames[:first], version.frames[last:]])
    np.testing.assert_array_equal(outside, np.setdiff1d(np.arange(frames), np.arange(start, end)))
    assert ((inside >= start) & (inside < end)).all()
    assert (np.diff(inside) >= 0).all()
    assert abs(len(inside) - (end - start) / speed) <= 1
    assert abs(first - position * len(outside)) <= 0.5


def test_paper_versions_are_faster_earlier_and_slower_later() -> None:
    early, late = default_versions(300, (120, 180))
    assert early.action[1] - early.action[0] == 30
    assert late.action[1] - late.action[0] == 120
    assert early.action[0] < 120 < late.action[0]
    # Even an action at the very start or end of its video is moved.
    for action in ((0, 60), (240, 300)):
        assert {version.action[0] for version in default_versions(300, action)} - {action[0]}


@pytest.mark.parametrize("wrong", [(5, 5), (-1, 4), (0, 50), (40, 60)])
def test_actions_that_are_none_are_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="action"):
        arrange(50, wrong, speed=1, position=0)


def test_encoder_that_reads_the_moment_finds_everything() -> None:
    figure = similarity_figure(clock(), fps=24, action=(4, 7), encode=read_clock)
    for comparison in figure.comparisons["encoder"]:
        assert comparison.found > 0.9
        assert comparison.chance < 0.1
        assert comparison.contrast > 0.5
        assert comparison.action_contrast > 0.5


def test_encoder_that_is_blind_finds_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    figure = similarity_figure(
        clock(), fps=24, action=(4, 7), encode=lambda clips: torch.randn(len(clips), 64, generator=generator)
    )
    for comparison in figure.comparisons["encoder"]:
        assert comparison.found < 0.3
        assert abs(comparison.contrast) < 0.1


def test_tensor_and_reader_give_the_same_and_alteration_reaches_only_versions() -> None:
    video = clock()
    held = similarity_figure(video, fps=24, action=(4, 7), encode=read_clock)
    read = similarity_figure(lambda n: video[list(n)], frames=240, fps=24, action=(4, 7), encode=read_clock)
    for one, two in zip(held.comparisons["encoder"], read.comparisons["encoder"], strict=True):
        np.testing.assert_array_equal(one.similarity, two.similarity)
    altered = similarity_figure(video, fps=24, action=(4, 7), encode=read_clock, alteration=MIRRORED)
    np.testing.assert_array_equal(altered.thumbnails[0][1], held.thumbnails[0][1])
    assert (altered.thumbnails[1][1] != held.thumbnails[1][1]).any()
    assert altered.altered


def test_mirroring_swaps_left_and_right() -> None:
    frames = torch.zeros(1, 3, 24, 24, dtype=torch.uint8)
    frames[..., :8] = 200
    changed = MIRRORED.apply(frames)
    assert changed[0, 0, 5, -3] > changed[0, 0, 5, 2]
    assert changed.dtype == torch.uint8


def test_drawing_has_a_column_per_version_and_a_row_per_encoder() -> None:
    one = similarity_figure(clock(), fps=24, action=(4, 7), encode={"a": read_clock})
    two = similarity_figure(clock(), fps=24, action=(4, 7), encode={"a": read_clock, "b": read_clock})
    from io import BytesIO

    from PIL import Image

    small, large = (Image.open(BytesIO(draw(figure, title="t"))) for figure in (one, two))
    assert large.height > 1.5 * small.height
    assert abs(large.width - small.width) < 40
    assert draw(one, kind="svg").lstrip().startswith(b"<?xml")
    assert draw(one) == draw(one)
