"""EPIC-KITCHENS-100 as distributed: one row an action, scored by its verb, its noun, or both.

Source: ``EPIC_100_train.csv`` and ``EPIC_100_validation.csv`` of
https://github.com/epic-kitchens/epic-kitchens-100-annotations, with ``EPIC_100_video_info.csv`` beside them. Classes
are numbers, as in the challenge's evaluation (https://github.com/epic-kitchens/C2-Action-Detection): ``"3"`` is verb
3, and ``"3,5"`` the action of verb 3 and noun 5.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator

from pal_ds.transfer.datasets.annotations import (
    AnnotationError,
    Segment,
    VideoAnnotation,
    read_number,
    read_span,
)
from pal_ds.transfer.datasets.detection import select
from pal_ds.transfer.datasets.text_file import read_text

_COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
_INFO = "EPIC_100_video_info.csv"
Row = dict[str, str]


def read_verbs(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read verbs; see :func:`read_actions`."""
    return _read(url, subset, lambda row: row["verb_class"])


def read_nouns(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read the first noun of each action; see :func:`read_actions`."""
    return _read(url, subset, lambda row: row["noun_class"])


def read_actions(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read verb and first noun as one class.

    Args:
        url: path or URL of ``EPIC_100_train.csv`` or ``EPIC_100_validation.csv``. Durations and frame rates come from
            ``EPIC_100_video_info.csv`` in the same folder, and are NaN without it.
        subset: the files have none: ``train`` or ``validation`` is what a file's name says; ``all`` and None take
            whatever is in it.

    Returns:
        Videos in the order of the file.

    Raises:
        AnnotationError: a column is missing, a row is malformed, or the file is not of that subset.
    """
    return _read(url, subset, lambda row: f"{row['verb_class']},{row['noun_class']}")


def _read(url: str, subset: str | None, label_of: Callable[[Row], str]) -> tuple[VideoAnnotation, ...]:
    segments: dict[str, list[Segment]] = {}
    for line, row in _rows(url, _COLUMNS):
        place = f"line {line}"
        for column in ("verb_class", "noun_class"):
            if not row[column].isdecimal():
                raise AnnotationError(url, place, f"{column} = {row[column]!r} isn't the number of a class")
        span = [_seconds(row[column], url, place) for column in ("start_timestamp", "stop_timestamp")]
        start, end = read_span(span, url, place)
        segments.setdefault(row["video_id"], []).append(Segment(start=start, end=end, label=label_of(row)))
    numbers = _video_info(url)
    unknown = (math.nan, math.nan)
    videos = (
        VideoAnnotation(
            video=video,
            subset=_subset_of(url),
            duration=numbers.get(video, unknown)[0],
            fps=numbers.get(video, unknown)[1],
            segments=tuple(found),
        )
        for video, found in segments.items()
    )
    return select(videos, subset if _subset_of(url) else None, url)


def _subset_of(url: str) -> str:
    """Return what the name of a file says it is: ``train``, ``validation``, or nothing."""
    name = url.rsplit("/", 1)[-1].lower()
    return next((subset for subset in ("train", "validation") if subset in name), "")


def _seconds(text: str, url: str, place: str) -> float:
    """Read ``HH:MM:SS.ss``."""
    parts = [read_number(part) for part in text.split(":")]
    if len(parts) != 3 or not all(part >= 0 for part in parts):
        raise AnnotationError(url, place, f"time = {text!r} isn't HH:MM:SS.ss")
    hours, minutes, seconds = parts
    return hours * 3600 + minutes * 60 + seconds


def _video_info(url: str) -> dict[str, tuple[float, float]]:
    """Read duration and frame rate of every video from the file beside the annotations, if it is there."""
    place = f"{url.rpartition('/')[0] or '.'}/{_INFO}"
    try:
        text = read_text(place)
    except AnnotationError:
        return {}
    reader = csv.DictReader(io.StringIO(text))
    return {
        str(row.get("video_id")): (read_number(row.get("duration")), read_number(row.get("fps")))
        for row in reader
    }


def _rows(url: str, columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(io.StringIO(read_text(url)))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        problem = f"has no column {missing[0]!r}"
        if "test_timestamps" in url:
            problem += ": the test set is distributed without classes"
        raise AnnotationError(url, "line 1", problem)
    for row in reader:
        if any(row[column] is None for column in columns):
            raise AnnotationError(url, f"line {reader.line_num}", "has too few columns")
        yield reader.line_num, row
