"""Strides in seconds: the frames nearest to equally spaced times, whatever rate a video has.

A step of ``seconds * fps`` frames need not be whole. Frame k of a run is the one nearest to ``k * step``, in double
precision, which is the same on every machine; a step below one frame repeats frames, so that time stays right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pal_ds.config.synthesis import SynthesisConfig
from pal_ds.data.rng import Draws

IntArray = npt.NDArray[np.int64]


def timed_region(
    draws: Draws, length: int, frames: int, fps: float, synthesis: SynthesisConfig
) -> tuple[IntArray, int]:
    """Draw a region's stride, U[smallest, largest] seconds, clamped where the video is short.

    Args:
        draws: of the region.
        length: clips of the region.
        frames: of the video.
        fps: of the video.
        synthesis: mode, frames of a clip and strides in seconds.

    Returns:
        Offsets of all frames from the first, int64 [length * clip_frames], and the step in whole frames.

    Raises:
        ValueError: the video's rate is not known.
    """
    smallest, largest = synthesis.stride_seconds
    (share,) = draws.numbers(1)
    wanted = _step(smallest + (largest - smallest) * share, fps)
    count = length * synthesis.clip_frames
    if synthesis.stride_mode == "span":
        step = clamped(wanted, count, frames)
        return spread(count, step), round(step)
    apart = clamped(_step(largest, fps), count, frames)
    step = min(wanted, apart)
    starts = np.arange(length) * (synthesis.clip_frames * apart)
    inside = np.arange(synthesis.clip_frames) * step
    return nearest((starts[:, None] + inside[None, :]).reshape(-1)), round(step)


def timed_background(frames: int, fps: float, synthesis: SynthesisConfig) -> tuple[IntArray, int]:
    """Return the offsets of a background clip's frames, int64 [clip_frames], and the step in whole frames.

    The step is the largest up to ``background_seconds`` at which all clips fit side by side.

    Raises:
        ValueError: the video's rate is not known.
    """
    seconds = synthesis.background_seconds or synthesis.stride_seconds[1]
    room = frames / (synthesis.clips * synthesis.clip_frames)
    step = min(_step(seconds, fps), max(1.0, room))
    return spread(synthesis.clip_frames, step), round(step)


def clamped(wanted: float, count: int, frames: int) -> float:
    """Return the largest step up to ``wanted`` at which ``count`` frames fit; one frame where none fits."""
    return min(wanted, max(1.0, (frames - 1) / max(1, count - 1)))


def spread(count: int, step: float) -> IntArray:
    """Return the frames nearest to the first ``count`` multiples of ``step``."""
    return nearest(np.arange(count) * step)


def nearest(places: npt.NDArray[np.floating[Any]]) -> IntArray:
    """Return the whole numbers nearest to places in frames, halves upwards."""
    found: IntArray = np.floor(places + 0.5).astype(np.int64)
    return found


def _step(seconds: float, fps: float) -> float:
    if not fps > 0:
        raise ValueError("synthesis.stride_seconds needs the frame rate of every clip")
    return seconds * fps
