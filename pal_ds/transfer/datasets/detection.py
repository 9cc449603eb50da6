"""Detection benchmarks: ActivityNet's official JSON form (THUMOS'14 too), and TSP's lists of ActivityNet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pal_ds.config.datasets import DATASETS
from pal_ds.transfer.datasets.annotations import (
    AnnotationError,
    Segment,
    VideoAnnotation,
    read_number,
    read_span,
)
from pal_ds.transfer.datasets.text_file import read_object, read_text

TSP_COLUMNS = ("video-name", "t-start", "t-end", "action-label", "video-duration", "temporal-region-label")


def read_database(url: str) -> tuple[VideoAnnotation, ...]:
    """Read ``{"database": {video: {subset, duration, annotations: [{segment, label}]}}}``.

    That is the official form of ActivityNet v1.3, and the one in which THUMOS'14 goes round (with ``fps``;
    times as text are read too).

    Args:
        url: path or URL of the JSON file.

    Returns:
        All videos of all subsets, in the order of the file.

    Raises:
        AnnotationError: the file is malformed; the message names the video.
    """
    return tuple(_read_video(url, name, entry) for name, entry in read_object(url, "database").items())


def read_tsp_csv(
    url: str, *, subset: str = "", metadata_url: str | None = None
) -> tuple[VideoAnnotation, ...]:
    """Read ActivityNet v1.3 as TSP lists it: one row per region, those labelled ``Action`` are the segments.

    Args:
        url: ``*_tsp_groundtruth.csv``.
        subset: what to call the subset; the file doesn't say.
        metadata_url: the ``*_metadata.csv`` beside it: adds videos without a region.

    Returns:
        Videos in the order of the file, then those of the metadata only.

    Raises:
        AnnotationError: a column is missing or a row is malformed.
    """
    segments: dict[str, list[Segment]] = {}
    numbers: dict[str, tuple[float, float]] = {}
    for line, row in _rows(url, TSP_COLUMNS):
        name = row["video-name"]
        numbers.setdefault(name, (read_number(row["video-duration"]), read_number(row.get("fps"))))
        regions = segments.setdefault(name, [])
        if row["temporal-region-label"] == "Action":
            start, end = read_span((row["t-start"], row["t-end"]), url, f"line {line}")
            regions.append(Segment(start=start, end=end, label=row["action-label"]))
    if metadata_url is not None:
        for _, row in _rows(metadata_url, ("filename", "video-duration", "fps")):
            name = row["filename"].rsplit(".", 1)[0].removeprefix("v_")
            numbers.setdefault(name, (read_number(row["video-duration"]), read_number(row["fps"])))
    return tuple(
        VideoAnnotation(
            video=name, subset=subset, duration=duration, fps=fps, segments=tuple(segments.get(name, ()))
        )
        for name, (duration, fps) in numbers.items()
    )


def read_detection(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read the annotations of one subset from either form, told apart by the name of the file.

    Args:
        url: ``.csv`` is the TSP form, everything else the official JSON.
        subset: exactly as the file spells it, or ``all``; None for a file that has no subsets (TSP).

    Raises:
        AnnotationError: malformed, or no such subset (the message lists those there are).
    """
    if url.lower().endswith(".csv"):
        return read_tsp_csv(url, subset=subset or "")
    return select(read_database(url), subset, url)


def read_named(dataset: str, url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read the annotations of one subset by the reader of a benchmark.

    Args:
        dataset: name in :data:`pal_ds.config.datasets.DATASETS`; empty is :func:`read_detection`.
        url: path or URL of its annotations, as distributed.
        subset: exactly as the file spells it, or ``all``; None where it has none.

    Raises:
        ConfigError: there is no such data set.
        AnnotationError: malformed, or no such subset.
    """
    if not dataset:
        return read_detection(url, subset)
    videos: tuple[VideoAnnotation, ...] = DATASETS.choose(dataset).load()(url, subset)
    return videos


def select(videos: Iterable[VideoAnnotation], subset: str | None, source: str) -> tuple[VideoAnnotation, ...]:
    """Keep the videos of one subset; ``all`` or None keeps every one.

    Raises:
        AnnotationError: no video is in the subset; the message lists the subsets there are.
    """
    everything = tuple(videos)
    if subset in (None, "all"):
        return everything
    chosen = tuple(video for video in everything if video.subset == subset)
    if not chosen:
        counts = Counter(video.subset or "(none)" for video in everything)
        have = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
        raise AnnotationError(
            source, "", f"no video in subset {subset!r}; it has {have or 'no video'}, or say all"
        )
    return chosen


def without_repeats(video: VideoAnnotation, tolerance: float = 1e-3) -> VideoAnnotation:
    """Drop zero-length segments and repeats (same class, both ends within ``tolerance`` seconds).

    Heads are trained on this; ActivityNet's official evaluation isn't cleaned, and neither is ``pal-eval``.
    """
    kept: list[Segment] = []
    for segment in video.segments:
        repeated = any(
            other.label == segment.label
            and abs(other.start - segment.start) <= tolerance
            and abs(other.end - segment.end) <= tolerance
            for other in kept
        )
        if segment.end > segment.start and not repeated:
            kept.append(segment)
    return VideoAnnotation(
        video=video.video, subset=video.subset, duration=video.duration, fps=video.fps, segments=tuple(kept)
    )


def _read_video(url: str, name: str, entry: Any) -> VideoAnnotation:
    place = f"video {name!r}"
    if not isinstance(entry, dict) or not isinstance(entry.get("annotations", []), list):
        raise AnnotationError(url, place, "isn't an object with a list 'annotations'")
    segments = []
    for number, annotation in enumerate(entry.get("annotations", [])):
        here = f"{place}, annotation {number}"
        if not isinstance(annotation, dict) or not isinstance(annotation.get("label"), str):
            raise AnnotationError(url, here, "has no 'label'")
        start, end = read_span(annotation.get("segment"), url, here)
        segments.append(Segment(start=start, end=end, label=annotation["label"]))
    return VideoAnnotation(
        video=name,
        subset=str(entry.get("subset", "")),
        duration=read_number(entry.get("duration")),
        fps=read_number(entry.get("fps")),
        segments=tuple(segments),
    )


def _rows(url: str, columns: tuple[str, ...]) -> Iterable[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(read_text(url)))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise AnnotationError(url, "line 1", f"has no column {missing[0]!r}")
    for row in reader:
        if any(row[column] is None for column in columns):
            raise AnnotationError(url, f"line {reader.line_num}", "has too few columns")
        yield reader.line_num, row
