"""HACS Segments: ActivityNet's JSON form, with durations as text and test videos without annotations.

Source: ``HACS_segments_v1.1.1.json`` of https://github.com/hangzhaomit/HACS-dataset; subsets ``training``,
``validation`` and ``testing``.
"""

from __future__ import annotations

from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.datasets.detection import read_database, select


def read_hacs(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read ``HACS_segments_v1.1.1.json``.

    Args:
        url: path or URL of the JSON file.
        subset: ``training``, ``validation``, ``testing``, or ``all``; None is all too.

    Returns:
        Videos in the order of the file; ids are YouTube's, to which the download script puts ``v_``.

    Raises:
        AnnotationError: malformed, or no such subset.
    """
    return select(read_database(url), subset, url)
