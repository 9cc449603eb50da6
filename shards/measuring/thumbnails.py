"""What a clip looks like in 1,440 bytes: five tiny grey pictures, and the perceptual hash that compares them."""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pal_ds.ffmpeg.process import run_tool
from pal_ds.ffmpeg.reading import input_arguments

FRAMES, HEIGHT, WIDTH = 5, 16, 18
#: Two clips are near duplicates where at most this share of the bits of their hashes differs …
MOST_BITS = 0.1
#: … and what moves in them moves alike: correlation of the frames' differences from their mean.
LEAST_MOTION = 0.6
#: Grey levels: flatter pictures tell nothing, smaller steps from cell to cell are noise, less motion is none.
_FLAT, _STEP, _STILL = 4.0, 2, 1.0
#: Pictures that both clips must have at the same place.
_LEAST_FRAMES = 2
#: A hash's 64 bits in four quarters of rows; every two of them are one value to look a picture up by.
_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """Grey pictures of a clip, uint8 [FRAMES, HEIGHT, WIDTH], at a tenth, three tenths … of its length."""

    frames_thw: npt.NDArray[np.uint8]

    def to_text(self) -> str:
        """Return it as text."""
        return base64.b85encode(self.frames_thw.tobytes()).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Thumbnail:
        """Undo :meth:`to_text`."""
        data = np.frombuffer(base64.b85decode(text), np.uint8)
        return cls(data.reshape(FRAMES, HEIGHT, WIDTH))

    @functools.cached_property
    def bits_tb(self) -> npt.NDArray[np.bool_]:
        """Whether each cell is brighter than its right neighbour (dHash, 8 rows of 8 bits), bool [FRAMES, 64]."""
        cells = self.frames_thw.reshape(FRAMES, 8, 2, 9, 2).mean(axis=(2, 4))
        bits: npt.NDArray[np.bool_] = (cells[:, :, :-1] > cells[:, :, 1:] + _STEP).reshape(FRAMES, 64)
        return bits

    @functools.cached_property
    def telling_t(self) -> npt.NDArray[np.bool_]:
        """Whether each picture is more than one grey, bool [FRAMES]."""
        telling: npt.NDArray[np.bool_] = self.frames_thw.std(axis=(1, 2)) >= _FLAT
        return telling

    def values(self) -> Iterator[tuple[int, int]]:
        """Yield (place, value) under which the clip is looked up; two that are alike nearly always share one."""
        quarters = np.packbits(self.bits_tb, axis=1).reshape(FRAMES, 4, 2)
        for frame in np.flatnonzero(self.telling_t).tolist():
            for pair, (first, second) in enumerate(_PAIRS):
                data = quarters[frame, first].tobytes() + quarters[frame, second].tobytes()
                yield frame * len(_PAIRS) + pair, int.from_bytes(data, "big")


def alike(one: Thumbnail, other: Thumbnail) -> float | None:
    """Return the share of bits in which two near duplicates differ, or None where they are none."""
    both = one.telling_t & other.telling_t
    if both.sum() < _LEAST_FRAMES:
        return None
    share = float((one.bits_tb[both] != other.bits_tb[both]).mean())
    if share > MOST_BITS:
        return None
    moving, against = _motion(one, both), _motion(other, both)
    if max(moving.std(), against.std()) < _STILL:
        return share
    scale = float(np.sqrt((moving**2).sum() * (against**2).sum()))
    correlation = float((moving * against).sum()) / scale if scale else 0.0
    return share if correlation >= LEAST_MOTION else None


def take_thumbnail(path: Path, start: float, seconds: float, *, timeout: float) -> Thumbnail | None:
    """Decode a span once and keep five tiny pictures; None where there aren't as many.

    Args:
        path: local file.
        start: of the span, in seconds.
        seconds: its length.
        timeout: seconds that decoding may take.
    """
    rate = f"setpts=PTS-STARTPTS,fps={FRAMES / seconds:.9f}:start_time=0"
    filters = f"{rate},scale={WIDTH}:{HEIGHT}:flags=area,format=gray"
    arguments = [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-reinit_filter", "0"),
        *input_arguments(str(path), start=start or None),
        *("-t", f"{seconds:.6f}", "-map", "0:V:0", "-an", "-sn", "-dn", "-filter_threads", "1"),
        *("-vf", filters, "-frames:v", str(FRAMES), "-threads", "1", "-f", "rawvideo", "-"),
    ]
    finished = run_tool(arguments, timeout=timeout)
    wanted = FRAMES * HEIGHT * WIDTH
    if finished.timed_out or len(finished.stdout) < wanted:
        return None
    return Thumbnail(np.frombuffer(finished.stdout[:wanted], np.uint8).reshape(FRAMES, HEIGHT, WIDTH))


def _motion(thumbnail: Thumbnail, frames_t: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    frames = thumbnail.frames_thw[frames_t].astype(np.float64)
    difference: npt.NDArray[np.float64] = frames - frames.mean(axis=0)
    return difference
