"""The page that lists all videos of a destination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.localize.record import Record, label_of
from pal_ds.transfer.localize.templating import hue, link, render

#: Videos on the page; all are in the other files.
MOST_VIDEOS = 2000
_MOST_SPANS = 60
_MOST_LABELS = 4


def index_page(records: Sequence[Record], failures: Sequence[VideoFailure], *, folder: str) -> str:
    """Return the page.

    Args:
        records: of all videos.
        failures: videos that could not be localized.
        folder: where the videos' pages lie, seen from this one.
    """
    colours: dict[str, int] = {}
    return render(
        "index.html",
        videos=[_entry(record, folder, colours) for record in records[:MOST_VIDEOS]],
        total=len(records),
        actions=sum(len(record.shown()) for record in records),
        failures=failures[:MOST_VIDEOS],
        left_out=max(0, len(records) - MOST_VIDEOS),
    )


def _entry(record: Record, folder: str, colours: dict[str, int]) -> dict[str, Any]:
    shown = record.shown()
    for row in shown:
        colours.setdefault(label_of(row), hue(len(colours)))
    whole = max([record.duration, 1e-3, *(row["segment"][1] for row in shown)])
    page = f"{folder}/{link(record.id)}.html"
    return {
        "id": record.id,
        "page": page,
        "duration": record.duration,
        "count": len(shown),
        "labels": list(dict.fromkeys(label_of(row) for row in shown))[:_MOST_LABELS],
        "spans": [
            {
                "href": f"{page}#t={row['segment'][0]:.2f}",
                "left": 100 * row["segment"][0] / whole,
                "width": 100 * (row["segment"][1] - row["segment"][0]) / whole,
                "title": f"{label_of(row)} {row['score']:.2f}",
                "hue": colours[label_of(row)],
            }
            for row in shown[:_MOST_SPANS]
        ],
    }
