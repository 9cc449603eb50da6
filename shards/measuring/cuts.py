"""Where a long video is cut: the rules of ``--chunk`` and ``--shots``, in seconds alone."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from ..errors import UsageError

#: A rest shorter than this share of ``--chunk`` is added to the piece before it.
LEAST_REST = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutOptions:
    """How whole videos become clips.

    Attributes:
        chunk: length of a piece in seconds; None cuts at shots alone.
        shots: cut where the picture changes as a whole, too.
        shot_threshold: how much more a frame must differ from the one before than its neighbours do.
        max_seconds: shots above this are cut in equal parts, where there is no ``chunk``.
        is_inherited: these are the rules of the set that is appended to, for what whole videos there may be.
    """

    chunk: float | None = None
    shots: bool = False
    shot_threshold: float = 3.0
    max_seconds: float = 600.0
    is_inherited: bool = False

    def __post_init__(self) -> None:
        if self.chunk is not None and not 0.1 <= self.chunk < math.inf:
            raise UsageError(f"--chunk {self.chunk:g}: give seconds, from 0.1")
        if self.chunk is not None and (1 + LEAST_REST) * self.chunk > self.max_seconds:
            raise UsageError(
                f"--chunk {self.chunk:g}: a last piece may be half as long again, more than --max-seconds "
                f"{self.max_seconds:g}: raise that or cut shorter"
            )
        if self.shot_threshold <= 0:
            raise UsageError(f"--shot-threshold {self.shot_threshold:g}: give a number above 0")

    @property
    def wanted(self) -> bool:
        """Whether anything is cut at all."""
        return self.shots or self.chunk is not None


def spans_of(duration: float, shots: Sequence[float], options: CutOptions) -> list[tuple[float, float]]:
    """Return the spans of a video's clips in seconds: side by side, from 0 to its end.

    A shot is cut into pieces of ``chunk`` seconds. A rest of half of that or more is a piece of its own, a shorter
    one is added to the piece before it. Without ``chunk``, a shot above ``max_seconds`` is cut into as few equal
    parts as fit.

    Args:
        duration: of the video, in seconds.
        shots: times at which a new shot begins, rising, without 0.
        options: the rules.
    """
    spans: list[tuple[float, float]] = []
    inner = [time for time in shots if 0 < time < duration]
    for start, end in zip([0.0, *inner], [*inner, duration], strict=True):
        times = _inside(end - start, options)
        bounds = [round(start + time, 3) for time in times]
        spans += [(a, b) for a, b in itertools.pairwise(bounds) if a < b]
    return spans


def _inside(length: float, options: CutOptions) -> list[float]:
    """Return the bounds of the pieces of one shot, its start (0) and its end with them."""
    if options.chunk is None:
        parts = max(1, math.ceil(length / options.max_seconds - 1e-9))
        return [length * part / parts for part in range(parts + 1)]
    whole = int(length / options.chunk + 1e-9)
    rest = length - whole * options.chunk
    pieces = max(1, whole + (rest >= LEAST_REST * options.chunk - 1e-9 and rest > 1e-9))
    return [*(part * options.chunk for part in range(pieces)), length]
