"""Ego4D Moment Queries: moments of clips, by several annotators.

Source: ``moments_train.json`` and ``moments_val.json`` of Ego4D (https://ego4d-data.org), and the one file into which
``MQ/Convert_annotation.py`` of https://github.com/EGO4D/episodic-memory makes them. What is scored is a clip, not the
video that it was cut from, and only classes that the benchmark calls primary.
"""

from __future__ import annotations

import math
from typing import Any

from pal_ds.transfer.datasets.annotations import (
    AnnotationError,
    Segment,
    VideoAnnotation,
    read_number,
    read_span,
)
from pal_ds.transfer.datasets.detection import select
from pal_ds.transfer.datasets.text_file import read_json


def read_moments(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read the moments of all clips of a file; the annotators' are put together, as the evaluation does.

    Args:
        url: path or URL of ``{"videos": [{split, clips: [{clip_uid, annotations: [{labels}]}]}]}``, or of the
            converted ``{clip: {subset, annotations}}``.
        subset: ``train``, ``val`` or ``test``, or ``all``; None is all too.

    Returns:
        One entry a clip, named by its ``clip_uid``, in the order of the file, times relative to the clip. Clips
        without a primary moment are left out, those of the test set apart.

    Raises:
        AnnotationError: malformed, or no such subset.
    """
    content = read_json(url)
    if not isinstance(content, dict):
        raise AnnotationError(url, "", "isn't an object, so it isn't Ego4D's moments_train.json or the like")
    if "videos" in content:
        clips = _distributed(url, content["videos"])
    else:
        clips = [_converted(url, name, entry) for name, entry in content.items()]
    kept: dict[str, VideoAnnotation] = {}
    for clip in clips:
        if clip.video in kept:
            raise AnnotationError(url, f"clip {clip.video!r}", "is listed twice")
        if clip.segments or clip.subset == "test":
            kept[clip.video] = clip
    return select(kept.values(), subset, url)


def _distributed(url: str, videos: Any) -> list[VideoAnnotation]:
    clips = []
    for number, video in enumerate(_list(videos, url, "videos")):
        place = f"video {number}"
        if not isinstance(video, dict):
            raise AnnotationError(url, place, "isn't an object")
        split = str(video.get("split", ""))
        clips += [
            _clip(url, split, clip, place) for clip in _list(video.get("clips"), url, f"{place}, clips")
        ]
    return clips


def _clip(url: str, split: str, clip: Any, place: str) -> VideoAnnotation:
    if not isinstance(clip, dict) or not isinstance(clip.get("clip_uid"), str):
        raise AnnotationError(url, place, "holds a clip without 'clip_uid'")
    name = clip["clip_uid"]
    here = f"clip {name!r}"
    labels: list[Any] = []
    for annotator in _list(clip.get("annotations", []), url, f"{here}, annotations"):
        found = annotator.get("labels") if isinstance(annotator, dict) else None
        labels += _list(found, url, f"{here}, labels")
    primary = [label for label in labels if not isinstance(label, dict) or label.get("primary") is not False]
    bounds = (read_number(clip.get("video_start_sec")), read_number(clip.get("video_end_sec")))
    return VideoAnnotation(
        video=name,
        subset=split,
        duration=bounds[1] - bounds[0],
        fps=math.nan,
        segments=tuple(_segment(url, label, here) for label in primary),
    )


def _converted(url: str, name: str, entry: Any) -> VideoAnnotation:
    if not isinstance(entry, dict):
        raise AnnotationError(url, f"clip {name!r}", "isn't an object with 'annotations'")
    labels = _list(entry.get("annotations", []), url, f"clip {name!r}, annotations")
    bounds = (read_number(entry.get("parent_start_sec")), read_number(entry.get("parent_end_sec")))
    return VideoAnnotation(
        video=name,
        subset=str(entry.get("subset", "")),
        duration=bounds[1] - bounds[0],
        fps=math.nan,
        segments=tuple(_segment(url, label, f"clip {name!r}") for label in labels),
    )


def _segment(url: str, label: Any, place: str) -> Segment:
    if not isinstance(label, dict) or not isinstance(label.get("label"), str):
        raise AnnotationError(url, place, "holds a moment without 'label'")
    start, end = read_span((label.get("start_time"), label.get("end_time")), url, place)
    return Segment(start=start, end=end, label=label["label"])


def _list(value: Any, url: str, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise AnnotationError(url, place, "isn't a list")
    return value
