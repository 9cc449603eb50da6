"""Ground truth and predictions from files into columns, checked; one-line errors that name the place."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from pal_ds.transfer.datasets.annotations import (
    FARTHEST,
    AnnotationError,
    Query,
    VideoAnnotation,
    read_span,
)
from pal_ds.transfer.datasets.grounding import query_identity
from pal_ds.transfer.datasets.text_file import object_of, read_json, read_object
from pal_ds.transfer.metrics.instances import Instances
from pal_ds.transfer.metrics.tiou import Bools, Floats


def from_annotations(videos: Iterable[VideoAnnotation]) -> Instances:
    """Put annotated segments into columns; classes are sorted by name, videos keep their order."""
    chosen = [video for video in videos if video.segments]
    labels = sorted({segment.label for video in chosen for segment in video.segments})
    position = {label: number for number, label in enumerate(labels)}
    rows = [(number, segment) for number, video in enumerate(chosen) for segment in video.segments]
    return Instances(
        videos=tuple(video.video for video in chosen),
        video=np.array([number for number, _ in rows], dtype=np.int64),
        segments=np.array([(s.start, s.end) for _, s in rows], dtype=np.float64).reshape(-1, 2),
        labels=tuple(labels),
        label=np.array([position[s.label] for _, s in rows], dtype=np.int64),
        scores=np.zeros(len(rows)),
    )


def read_predictions(
    url: str,
    *,
    labelled: bool,
    timed: bool = True,
    results_in: tuple[str, ...] = ("results",),
    class_field: str = "label",
    prefix: str = "",
) -> Instances:
    """Read ``{"results": {video: [{segment, label, score}]}}`` into columns, in the order of the file.

    Args:
        url: path or URL of the JSON file.
        labelled: whether every row must have a ``label`` (detection, classification).
        timed: whether every row must have a ``segment`` (not in classification).
        results_in: objects that may hold the results; the first one there is read.
        class_field: where a row without ``label`` names its class, as a number or numbers with commas.
        prefix: left out of names of videos that begin with it.

    Raises:
        AnnotationError: malformed; the message names the video and the row.
    """
    content = read_json(url)
    there = [name for name in results_in if isinstance(content, dict) and name in content]
    results = object_of(content, (*there, *results_in)[0], url)
    if class_field != "label" or prefix:
        results = _as_official(results, class_field, prefix)
    try:
        columns = _columns(results, labelled=labelled, timed=timed)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        columns = None
    if columns is None or not _sound(columns):
        _explain(url, results, labelled=labelled, timed=timed)
    assert columns is not None
    return columns


def _as_official(results: dict[str, Any], class_field: str, prefix: str) -> dict[str, Any]:
    """Bring a benchmark's own submission into the form of the others; malformed rows stay, to be told of."""
    renamed: dict[str, Any] = {}
    for video, rows in results.items():
        found = rows if not isinstance(rows, list) else [_with_label(row, class_field) for row in rows]
        name = video.removeprefix(prefix)
        both = isinstance(renamed.get(name), list) and isinstance(found, list)
        renamed[name] = renamed[name] + found if both else found
    return renamed


def _with_label(row: Any, class_field: str) -> Any:
    if not isinstance(row, dict) or "label" in row or class_field not in row:
        return row
    value = row[class_field]
    parts = str(value).split(",")
    if isinstance(value, (int, str)) and all(part.strip().isdecimal() for part in parts):
        return {**row, "label": ",".join(str(int(part)) for part in parts)}
    return row


def _columns(results: dict[str, Any], *, labelled: bool, timed: bool) -> Instances:
    """Build the columns the fast way; raises whatever a malformed row raises."""
    counts, spans, scores, label = [], [], [], []
    numbers: defaultdict[str, int] = defaultdict(lambda: len(numbers))
    for rows in results.values():
        if not isinstance(rows, list):
            raise TypeError
        counts.append(len(rows))
        scores.extend([row["score"] for row in rows])
        if timed:
            spans.extend([row["segment"] for row in rows])
        if labelled:
            label.extend([numbers[row["label"]] for row in rows])
    total = sum(counts)
    if not all(isinstance(name, str) for name in numbers) or not {*map(type, scores)} <= {int, float}:
        raise TypeError
    segments = np.array(spans, dtype=np.float64) if timed and total else np.zeros((total, 2))
    if segments.shape != (total, 2):
        raise ValueError
    return Instances(
        videos=tuple(results),
        video=np.repeat(np.arange(len(counts)), counts),
        segments=segments,
        labels=tuple(numbers),
        label=np.array(label, dtype=np.int64) if labelled else np.full(total, -1),
        scores=np.array(scores, dtype=np.float64),
    )


def _sound(columns: Instances) -> bool:
    finite = np.isfinite(columns.scores).all() and (np.abs(columns.segments) < FARTHEST).all()
    return bool(finite and (columns.segments[:, 1] >= columns.segments[:, 0]).all())


def _explain(url: str, results: dict[str, Any], *, labelled: bool, timed: bool) -> None:
    """Find the first malformed row and raise the error that names it."""
    for name, rows in results.items():
        if not isinstance(rows, list):
            raise AnnotationError(url, f"video {name!r}", "isn't a list of predictions")
        for number, row in enumerate(rows):
            place = f"video {name!r}, prediction {number}"
            if not isinstance(row, dict):
                raise AnnotationError(url, place, "isn't an object")
            if timed:
                read_span(row.get("segment"), url, place)
            if labelled and not isinstance(row.get("label"), str):
                raise AnnotationError(url, place, "has no 'label'")
            _check_score(row.get("score"), url, place)
    raise AnnotationError(url, "", "holds a row that isn't {segment, label, score}")


def _check_score(score: Any, url: str, place: str) -> None:
    try:
        sound = type(score) in (int, float) and math.isfinite(score)
    except OverflowError:
        sound = False
    if not sound:
        raise AnnotationError(url, place, f"score = {score!r:.80} isn't a finite number")


def read_answers(url: str, queries: tuple[Query, ...]) -> tuple[Floats, Bools]:
    """Read the best scored span of every query from ``{"results": {video: [{segment, score, sentence}]}}``.

    A row names its query by ``query_id``, ``sentence``, ``query`` or ``label``. Rows that name none answer
    the video's only query, or, one row each, its queries in the order of the ground truth. Of equal scores
    the first counts. A query given twice with one name (Charades-STA has such) is answered by the same span.

    Args:
        url: path or URL of the JSON file.
        queries: the ground truth.

    Returns:
        Spans [Q, 2] and whether each query has one [Q].

    Raises:
        AnnotationError: malformed, or rows can't be told to belong to a query.
    """
    results = read_object(url, "results")
    _check_answers(url, results)
    by_video: dict[str, list[int]] = {}
    for number, query in enumerate(queries):
        by_video.setdefault(query.video, []).append(number)
    spans_q2 = np.zeros((len(queries), 2))
    answered_q = np.zeros(len(queries), dtype=bool)
    for video, numbers in by_video.items():
        rows = results.get(video, results.get(f"v_{video}", []))
        best = _best_by_query(url, video, rows, [queries[number].identity for number in numbers])
        for number, row in zip(numbers, best, strict=True):
            if row is not None:
                spans_q2[number] = [float(value) for value in row["segment"]]
                answered_q[number] = True
    return spans_q2, answered_q


def _check_answers(url: str, results: dict[str, Any]) -> None:
    for video, rows in results.items():
        if not isinstance(rows, list):
            raise AnnotationError(url, f"video {video!r}", "isn't a list of predictions")
        for number, row in enumerate(rows):
            place = f"video {video!r}, prediction {number}"
            if not isinstance(row, dict):
                raise AnnotationError(url, place, "isn't an object")
            read_span(row.get("segment"), url, place)
            _check_score(row.get("score", 0.0), url, place)


def _best_by_query(url: str, video: str, rows: list[Any], identities: list[str]) -> list[Any]:
    names = [query_identity(row) for row in rows]
    if rows and all(name is None for name in names):
        if len(identities) == 1:
            return [max(rows, key=lambda row: row.get("score", 0.0))]
        if len(rows) == len(identities):
            return list(rows)
    if any(name is None for name in names):
        problem = (
            f"a prediction doesn't name one of its {len(identities)} queries by 'sentence' or 'query_id'"
        )
        raise AnnotationError(url, f"video {video!r}", problem)
    best: dict[str | None, Any] = {}
    for name, row in zip(names, rows, strict=True):
        if name not in best or row.get("score", 0.0) > best[name].get("score", 0.0):
            best[name] = row
    return [best.get(identity) for identity in identities]
