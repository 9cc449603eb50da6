"""MultiTHUMOS: one text file a class, ``VIDEO START END`` a line, on the videos of THUMOS'14.

Source: ``multithumos.zip`` of Yeung et al., "Every Moment Counts" (IJCV 2018), unpacked: ``class_list.txt`` and
``annotations/<Class>.txt``. The subset is in a video's name: ``video_validation_…`` trains, ``video_test_…`` scores.
"""

from __future__ import annotations

import math
from pathlib import Path

from pal_ds.transfer.datasets.annotations import AnnotationError, Segment, VideoAnnotation, read_span
from pal_ds.transfer.datasets.detection import read_database, select
from pal_ds.transfer.datasets.text_file import read_text

_FOLDER = "annotations"


def read_multithumos(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read the unpacked folder, or the JSON form of ActivityNet in which the set goes round too.

    Args:
        url: path or URL of ``multithumos/``, of its ``annotations/``, or of a ``.json`` file.
        subset: ``validation`` or ``test`` (a JSON file's own names), or ``all``; None is all too.

    Returns:
        Videos by name, segments by start; neither durations nor frame rates are distributed (NaN). Zero-length
        lines are kept, as evaluation has it.

    Raises:
        AnnotationError: a line is malformed, there is no class file, or no such subset.
    """
    if url.lower().endswith(".json"):
        return select(read_database(url), subset, url)
    folder, names = _class_files(url)
    segments: dict[str, list[Segment]] = {}
    for name in names:
        place = f"{folder.rstrip('/')}/{name}"
        for number, line in enumerate(read_text(place).splitlines(), start=1):
            fields = line.split()
            if not fields:
                continue
            if len(fields) != 3:
                raise AnnotationError(place, f"line {number}", "isn't 'VIDEO START END'")
            start, end = read_span(fields[1:], place, f"line {number}")
            label = name.removesuffix(".txt")
            segments.setdefault(fields[0], []).append(Segment(start=start, end=end, label=label))
    videos = (_video(name, found) for name, found in sorted(segments.items()))
    return select(videos, subset, url)


def _class_files(url: str) -> tuple[str, list[str]]:
    """Find the folder of class files and their names."""
    for folder in (f"{url.rstrip('/')}/{_FOLDER}", url):
        names = [name for name in _names(folder) if name.endswith(".txt") and name != "class_list.txt"]
        if names:
            return folder, names
    raise AnnotationError(
        url, "", "holds no annotations/<Class>.txt; give the folder that multithumos.zip unpacks to"
    )


def _names(folder: str) -> list[str]:
    if "://" not in folder:
        path = Path(folder)
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    from pal_ds import storage

    try:
        return storage.list_names(folder, retry=storage.AT_START)
    except storage.StorageError as error:
        raise AnnotationError(storage.redact(folder), "", str(error)) from None


def _video(name: str, segments: list[Segment]) -> VideoAnnotation:
    parts = name.split("_")
    return VideoAnnotation(
        video=name,
        subset=parts[1] if len(parts) > 2 and parts[0] == "video" else "",
        duration=math.nan,
        fps=math.nan,
        segments=tuple(sorted(segments, key=lambda segment: (segment.start, segment.end, segment.label))),
    )
