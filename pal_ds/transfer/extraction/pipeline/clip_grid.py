"""Where the clips of a video lie, and how they are cut from its frames while these are decoded, each once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipGrid:
    """The clips of one video.

    Clip t stands for ``t * stride`` and begins at the sampled frame nearest to it.

    Attributes:
        clip_frames: sampled frames a clip.
        stride: sampled frames between two clips; a fraction where it was asked for in seconds.
        count: T.
    """

    clip_frames: int
    stride: float
    count: int

    @classmethod
    def of(cls, frames: int, clip_frames: int, stride: float) -> ClipGrid:
        """Return all whole clips of a video of so many sampled frames, at least one.

        Raises:
            ValueError: a stride under one frame, so that clips would repeat.
        """
        if stride < 1:
            raise ValueError(f"a stride of {stride:.3g} frames repeats clips; use at least one frame")
        return cls(clip_frames=clip_frames, stride=stride, count=count_clips(frames, clip_frames, stride))

    def start(self, number: int) -> int:
        """Return the first sampled frame of a clip."""
        return nearest(number * self.stride)

    @property
    def most_shift(self) -> float:
        """Frames between ``t * stride`` and the frame at which the clip begins, at most."""
        if float(self.stride).is_integer():
            return 0.0
        return max(abs(self.start(number) - number * self.stride) for number in range(self.count))

    def frames(self) -> Iterator[int]:
        """Yield the sampled frames that clips need, rising, each once."""
        asked = 0
        for number in range(self.count):
            start = self.start(number)
            yield from range(max(start, asked), start + self.clip_frames)
            asked = start + self.clip_frames

    def places(self) -> Iterator[int]:
        """Yield for each clip the place of its first frame among :meth:`frames`."""
        asked = before = 0
        for number in range(self.count):
            start = self.start(number)
            shared = max(0, asked - start)
            yield before - shared
            before += self.clip_frames - shared
            asked = start + self.clip_frames


def nearest(position: float) -> int:
    """Return the nearest whole number; the higher one of two."""
    return math.floor(position + 0.5)


def count_clips(frames: int, clip_frames: int, stride: float) -> int:
    """Return T: whole clips that fit in ``frames``, at least 1."""
    last = max(0, frames - clip_frames)
    count = int(last / stride) + 2
    while count > 1 and nearest((count - 1) * stride) > last:
        count -= 1
    return count


def cut_clips(stream: FrameStream, encoder: ClipEncoder, grid: ClipGrid) -> Iterator[list[Tensor]]:
    """Yield the clips of a video in order, a list for each chunk of decoded frames.

    Clips are views of the chunk, so that overlapping ones take no memory of their own.

    Yields:
        uint8 [clip_frames, K, 3, size, size] each; a list may be empty.
    """
    places = grid.places()
    place = next(places, None)
    held_nkchw: Tensor | None = None
    base = 0
    for _, frames_nchw in stream.chunks(grid.frames()):
        new_nkchw = encoder.prepare(frames_nchw, pixel_aspect=stream.pixel_aspect)
        held_nkchw = new_nkchw if held_nkchw is None else torch.cat((held_nkchw, new_nkchw))
        clips = []
        while place is not None and place + grid.clip_frames <= base + len(held_nkchw):
            clips.append(held_nkchw[place - base : place - base + grid.clip_frames])
            place = next(places, None)
        yield clips
        if place is None:
            return
        held_nkchw, base = (held_nkchw[place - base :], place) if place > base else (held_nkchw, base)
        if not len(held_nkchw):
            held_nkchw = None
