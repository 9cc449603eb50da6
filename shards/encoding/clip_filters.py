"""What of a clip may keep it out of a set: its sides, its length, how much moves in it, how much of it is black."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pal_ds.ffmpeg.process import run_tool
from pal_ds.ffmpeg.reading import input_arguments

from ..errors import Rejected, UsageError

#: A clip is looked at so often a second, in cells of a grid, by luma (16 is black, 235 white).
LOOKS_PER_SECOND = 8
_WIDTH, _HEIGHT = 32, 18
#: A picture is black where so many of its cells are darker than this.
_BLACK_LUMA, _BLACK_CELLS = 40, 0.98


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipFilters:
    """Bounds; None where a filter is off.

    Attributes:
        min_side: of the source's shorter side, in pixels.
        min_seconds: of the clip.
        min_motion: of the median change of luma from look to look.
        max_black: of the share of looks that are black.
    """

    min_side: int | None = None
    min_seconds: float | None = None
    min_motion: float | None = None
    max_black: float | None = None

    def __post_init__(self) -> None:
        if self.min_side is not None and self.min_side < 1:
            raise UsageError(f"--min-side {self.min_side}: give pixels, from 1")
        if self.min_seconds is not None and not self.min_seconds > 0:
            raise UsageError(f"--min-seconds {self.min_seconds:g}: give a number above 0")
        if self.min_motion is not None and not 0 < self.min_motion < 255:
            raise UsageError(f"--min-motion {self.min_motion:g}: give grey levels above 0, as 0.5")
        if self.max_black is not None and not 0 <= self.max_black < 1:
            raise UsageError(f"--max-black {self.max_black:g}: give a share from 0 to below 1, as 0.5")

    @property
    def looks(self) -> bool:
        """Whether the pictures have to be looked at."""
        return self.min_motion is not None or self.max_black is not None

    def recipe(self) -> dict[str, Any]:
        """Return the filters that are on; empty where none is."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def check_side(self, width: int, height: int) -> None:
        """Refuse a source that is too small.

        Raises:
            Rejected: at stage ``filter``.
        """
        side = min(width, height)
        if self.min_side is not None and side < self.min_side:
            raise Rejected("filter", f"shorter side of {side} px, below --min-side {self.min_side}")

    def check_seconds(self, seconds: float) -> None:
        """Refuse a clip that is too short.

        Raises:
            Rejected: at stage ``filter``.
        """
        if self.min_seconds is not None and seconds < self.min_seconds - 1e-6:
            raise Rejected("filter", f"{seconds:.3f} s, below --min-seconds {self.min_seconds:g}")

    def check_looks(self, motion: float, black: float) -> None:
        """Refuse a clip in which too little moves, or too much is black.

        Raises:
            Rejected: at stage ``filter``.
        """
        if self.max_black is not None and black > self.max_black:
            raise Rejected("filter", f"{black:.3f} of it is black, above --max-black {self.max_black:g}")
        if self.min_motion is not None and motion < self.min_motion:
            raise Rejected("filter", f"motion of {motion:.3f}, below --min-motion {self.min_motion:g}")


def look_output(path: Path) -> list[str]:
    """Return the arguments of an ffmpeg output that keeps a clip's looks beside it."""
    filters = f"fps={LOOKS_PER_SECOND},scale={_WIDTH}:{_HEIGHT}:flags=area,format=yuv420p,extractplanes=y"
    return ["-filter_threads", "1", "-vf", filters, "-f", "rawvideo", "-y", f"file:{_looks_path(path)}"]


def take_looks(paths: Sequence[Path], *, timeout: float) -> None:
    """Decode clips for their looks alone; where a clip can't be decoded none are left."""
    for path in paths:
        arguments = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "error"]
        arguments += [*input_arguments(str(path)), "-map", "0:V:0", *look_output(path)]
        run_tool(arguments, timeout=timeout)


def read_looks(path: Path) -> tuple[float, float]:
    """Read a clip's looks and remove them.

    Returns:
        The median over looks of the mean absolute change of luma since the look before, in grey levels; the share
        of looks that are black. A clip with fewer than two looks has no motion.
    """
    kept = _looks_path(path)
    data = kept.read_bytes() if kept.exists() else b""
    kept.unlink(missing_ok=True)
    count = len(data) // (_WIDTH * _HEIGHT)
    if not count:
        return 0.0, 0.0
    looks_tc = np.frombuffer(data, np.uint8, count * _WIDTH * _HEIGHT).reshape(count, -1).astype(np.int16)
    black = float(((looks_tc < _BLACK_LUMA).mean(axis=1) >= _BLACK_CELLS).mean())
    changes = np.abs(np.diff(looks_tc, axis=0)).mean(axis=1)
    return (float(np.median(changes)) if count > 1 else 0.0), black


def _looks_path(path: Path) -> Path:
    return path.with_name(path.name + ".looks")
