"""What the benchmarks annotate, in one form, and the error their readers raise."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: No time in seconds is as far from 0 as this: lengths of spans must not overflow.
FARTHEST = 1e12


class AnnotationError(ValueError):
    """A file that isn't what it's said to be: one line with the file, the place in it and what's wrong."""

    def __init__(self, source: str, place: str, problem: str) -> None:
        self.source = source
        where = f"{source}: {place}: " if place else f"{source}: "
        super().__init__(where + problem)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One action: start and end in seconds, ``end >= start``, and its class."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, kw_only=True)
class VideoAnnotation:
    """One untrimmed video of a detection benchmark.

    Attributes:
        video: name, without the ``v_`` of feature files.
        subset: as the file spells it (``training``, ``validation``, ``Test`` …); empty where it has none.
        duration: seconds; NaN where the file doesn't say.
        fps: frames per second; NaN where the file doesn't say.
        segments: its actions, in the order of the file.
    """

    video: str
    subset: str
    duration: float
    fps: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True)
class Query:
    """One sentence and the span of the video it describes, in seconds.

    Attributes:
        video: name of the video.
        start: seconds.
        end: seconds.
        sentence: as distributed.
        identity: what a prediction names it by: its own id where the file gives one, else the sentence.
    """

    video: str
    start: float
    end: float
    sentence: str
    identity: str


def read_span(value: object, source: str, place: str) -> tuple[float, float]:
    """Read ``[start, end]`` (numbers, or numbers as text) and check that it's a span of time.

    Raises:
        AnnotationError: not two numbers of seconds, or the end lies before the start.
    """
    try:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        start, end = (float(bound) for bound in value)
    except (TypeError, ValueError, OverflowError):
        shown = f"{value!r:.80}"
        raise AnnotationError(source, place, f"segment = {shown} isn't [start, end] in seconds") from None
    if not (math.isfinite(start) and math.isfinite(end)):
        raise AnnotationError(source, place, f"segment = {value!r} isn't finite")
    if max(abs(start), abs(end)) >= FARTHEST:
        raise AnnotationError(source, place, f"segment = {value!r} isn't a time in seconds")
    if end < start:
        raise AnnotationError(source, place, f"segment = {value!r} ends before it starts")
    return start, end


def read_number(value: object) -> float:
    """Read an optional number; NaN where there is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
