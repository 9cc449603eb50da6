"""Annotated spans of untrimmed videos as a list for ``pal-shard build``: actions, and what lies between them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pal_ds.transfer.datasets.annotations import AnnotationError, VideoAnnotation

COLUMNS = ("path", "start", "end", "split", "label")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a video: its file, start and end in seconds, the split, and its label."""

    path: str
    start: float
    end: float
    split: str
    label: str


def spans_of(
    videos: Iterable[VideoAnnotation],
    *,
    splits: Mapping[str, str],
    name: str,
    background: str,
    min_seconds: float,
    source: str,
) -> Iterator[Span]:
    """Yield the actions of every video of the wanted subsets, and the stretches that no action covers.

    Times are cut to the video; what is shorter than ``min_seconds`` then is left out, as TSP leaves out what holds no
    clip.

    Args:
        videos: annotations.
        splits: name of the shard set's split by the subset's name.
        name: file of a video, with ``{id}`` for its id.
        background: label of stretches without action.
        min_seconds: length of the shortest span.
        source: name of the annotations, for messages.

    Raises:
        AnnotationError: a video's duration is not known, or an action has the background's label.
    """
    for video in videos:
        if video.subset not in splits:
            continue
        if not math.isfinite(video.duration):
            raise AnnotationError(source, video.video, "has no duration, so its background is not known")
        path, split = name.replace("{id}", video.video), splits[video.subset]
        covered = 0.0
        for segment in sorted(video.segments, key=lambda each: (each.start, each.end)):
            if segment.label == background:
                raise AnnotationError(
                    source,
                    video.video,
                    f"label {background!r} is an action's; give --background another name",
                )
            start, end = (min(max(time, 0.0), video.duration) for time in (segment.start, segment.end))
            between = Span(path=path, start=covered, end=start, split=split, label=background)
            action = Span(path=path, start=start, end=end, split=split, label=segment.label)
            yield from (span for span in (between, action) if span.end - span.start >= min_seconds)
            covered = max(covered, end)
        last = Span(path=path, start=covered, end=video.duration, split=split, label=background)
        if last.end - last.start >= min_seconds:
            yield last


def to_csv(spans: Iterable[Span]) -> bytes:
    """Write spans as the list that ``pal-shard build`` takes; times to the millisecond."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for span in spans:
        writer.writerow([span.path, f"{span.start:.3f}", f"{span.end:.3f}", span.split, span.label])
    return out.getvalue().encode()


def paths_of(data: str, source: str) -> tuple[str, ...]:
    """Return the distinct files of a list of spans, in the order of the list.

    Raises:
        AnnotationError: it has no column ``path``.
    """
    rows = csv.DictReader(io.StringIO(data))
    if "path" not in (rows.fieldnames or ()):
        raise AnnotationError(source, "", f"has no column path; its columns are {rows.fieldnames}")
    return tuple(dict.fromkeys(row["path"] for row in rows))
