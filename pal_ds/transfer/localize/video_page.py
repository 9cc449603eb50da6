"""The page of one video: the player, a timeline of its actions by class, and a list to click on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pal_ds.transfer.localize.record import Record, label_of
from pal_ds.transfer.localize.templating import hue, link, render

#: Actions on a page, the best ones; all are in the other files.
MOST_ACTIONS = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageAction:
    """One action on a page; ``picture`` is a ``data:`` URI or empty."""

    start: float
    end: float
    label: str
    score: float
    picture: str
    hue: int
    shown: bool


def spans_to_picture(record: Record, most: int) -> list[tuple[float, float]]:
    """Return the segments that get a thumbnail: the best ones, each once however many classes it has."""
    ordered = sorted(record.rows, key=lambda row: -row["score"])
    spans = dict.fromkeys((float(row["segment"][0]), float(row["segment"][1])) for row in ordered)
    return list(spans)[:most]


def video_page(
    record: Record,
    *,
    film: str,
    begin: float,
    note: str,
    pictures: Mapping[tuple[float, float], str],
    facts: Sequence[tuple[str, str]],
) -> str:
    """Return the page.

    Args:
        record: of the video.
        film: what the player plays: a URL as seen from the page; empty shows ``note`` in its place.
        begin: second of the film's own time at which its first frame appears.
        note: why there is no player, or anything else to be said under it.
        pictures: thumbnails by segment.
        facts: name and value, shown at the end.
    """
    actions = page_actions(record, pictures)
    duration = max([record.duration, *(action.end for action in actions)])
    return render(
        "video.html",
        record=record,
        actions=actions,
        labels=list(dict.fromkeys(action.label for action in actions)),
        left_out=len(record.rows) - len(actions),
        film=film,
        begin=begin,
        note=note,
        duration=duration,
        highest=max((action.score for action in actions), default=1.0),
        shown=sum(action.shown for action in actions),
        files=[(kind, link(f"{record.id}{ending}")) for kind, ending in _FILES],
        facts=facts,
    )


_FILES = (("JSON", ".json"), ("subtitles (WebVTT)", ".vtt"), ("CSV", ".csv"))


def page_actions(record: Record, pictures: Mapping[tuple[float, float], str]) -> list[PageAction]:
    """Return the best actions by time; classes get colours in the order of their best score."""
    best: list[dict[str, Any]] = sorted(record.rows, key=lambda row: -row["score"])[:MOST_ACTIONS]
    colours: dict[str, int] = {}
    for row in best:
        colours.setdefault(label_of(row), hue(len(colours)))
    found = [
        PageAction(
            start=float(row["segment"][0]),
            end=float(row["segment"][1]),
            label=label_of(row),
            score=float(row["score"]),
            picture=pictures.get((float(row["segment"][0]), float(row["segment"][1])), ""),
            hue=colours[label_of(row)],
            shown=row["score"] >= record.threshold,
        )
        for row in best
    ]
    return sorted(found, key=lambda action: (action.start, action.end))
