"""FineAction: ActivityNet's JSON form, whose video ids begin with ``v_``.

Source: ``annotations_gt.json`` of https://github.com/Richard-61/FineAction; subsets ``training``, ``validation`` and
``testing``, the last without annotations.
"""

from __future__ import annotations

import dataclasses

from pal_ds.transfer.datasets.annotations import AnnotationError, VideoAnnotation
from pal_ds.transfer.datasets.detection import read_database, select


def read_fineaction(url: str, subset: str | None) -> tuple[VideoAnnotation, ...]:
    """Read ``annotations_gt.json``.

    Ids lose their ``v_``, as the names of feature files do (``v_00000012.mp4`` gives features of ``00000012``).

    Args:
        url: path or URL of the JSON file.
        subset: ``training``, ``validation``, ``testing``, or ``all``; None is all too.

    Raises:
        AnnotationError: malformed, no such subset, or two videos with one id.
    """
    videos = tuple(
        dataclasses.replace(video, video=video.video.removeprefix("v_")) for video in read_database(url)
    )
    seen: set[str] = set()
    for video in videos:
        if video.video in seen:
            raise AnnotationError(url, f"video {video.video!r}", "is listed twice, with and without 'v_'")
        seen.add(video.video)
    return select(videos, subset, url)
