"""Clips are cut where the grid says, every needed frame once, in chunks of any size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal_ds.transfer.extraction.pipeline.clip_grid import ClipGrid, cut_clips


class NumberedFrames:
    """A stream whose frames hold their own numbers, and which remembers what was asked for."""

    pixel_aspect = 1.0

    def __init__(self, frames: int, chunk: int) -> None:
        self.frames = frames
        self.asked: list[int] = []
        self._chunk = chunk

    def chunks(self, numbers: Iterator[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        everything = list(numbers)
        for begin in range(0, len(everything), self._chunk):
            some = everything[begin : begin + self._chunk]
            self.asked += some
            yield some, torch.tensor([min(number, self.frames - 1) for number in some])[:, None, None, None]


class Bare:
    def prepare(self, frames_nchw: torch.Tensor, *, pixel_aspect: float) -> torch.Tensor:
        assert pixel_aspect == 1.0
        return frames_nchw[:, None]


STRIDES = st.one_of(st.integers(1, 30), st.floats(1, 30))


@given(st.integers(1, 200), st.integers(1, 20), STRIDES, st.integers(1, 40))
def test_clips_are_those_of_the_grid_and_no_frame_is_decoded_twice(
    frames: int, clip_frames: int, stride: float, chunk: int
) -> None:
    grid = ClipGrid.of(frames, clip_frames, stride)
    stream = NumberedFrames(frames, chunk)
    clips = [clip for some in cut_clips(stream, Bare(), grid) for clip in some]  # type: ignore[arg-type]
    assert len(clips) == grid.count
    for number, clip in enumerate(clips):
        start = grid.start(number)
        assert clip.flatten().tolist() == [min(start + frame, frames - 1) for frame in range(clip_frames)]
    assert stream.asked == sorted(set(stream.asked))


@given(st.integers(1, 400), st.integers(1, 40), STRIDES)
def test_the_grid_holds_all_whole_clips_and_each_begins_at_the_nearest_frame(
    frames: int, clip_frames: int, stride: float
) -> None:
    grid = ClipGrid.of(frames, clip_frames, stride)
    assert grid.count >= 1
    assert grid.start(grid.count - 1) + clip_frames <= max(frames, clip_frames)
    assert grid.start(grid.count) + clip_frames > frames
    assert all(abs(grid.start(number) - number * stride) <= 0.5 + 1e-9 for number in range(grid.count))
    assert grid.most_shift <= 0.5 + 1e-9
    if float(stride).is_integer():
        assert grid.most_shift == 0
        assert grid.count == max(0, frames - clip_frames) // int(stride) + 1


def test_a_stride_under_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stride of 0\.5 frames repeats clips"):
        ClipGrid.of(100, 8, 0.5)
