"""Actions as text that other programs open: WebVTT subtitles and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from pal_ds.transfer.localize.record import Record, label_of

CSV_COLUMNS = ("video", "start", "end", "label", "score")
#: What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def subtitles(record: Record) -> str:
    """Return WebVTT: a cue for each action from the threshold on, by time.

    Times are those of the file, as players count them: from its zero, not from its first frame. They are rounded to
    milliseconds; a cue lasts at least one.
    """
    parts = ["WEBVTT"]
    rows = sorted(record.shown(), key=lambda row: (row["segment"][0], row["segment"][1]))
    for number, row in enumerate(rows, 1):
        start, end = (round(1000 * (record.begin + seconds)) for seconds in row["segment"])
        text = cue_text(f"{label_of(row)} ({row['score']:.2f})")
        parts.append(f"{number}\n{_clock(start)} --> {_clock(max(end, start + 1))}\n{text}")
    return "\n\n".join(parts) + "\n"


def table(records: Iterable[Record]) -> str:
    """Return CSV of all actions: video, start and end in seconds, class, score.

    Spreadsheets run cells that begin like a formula; names that do get an apostrophe before them (OWASP, "CSV
    Injection").
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for record in records:
        for row in record.rows:
            start, end = row["segment"]
            name, label = _plain(record.id), _plain(label_of(row))
            writer.writerow((name, f"{start:.3f}", f"{end:.3f}", label, f"{row['score']:.6g}"))
    return file.getvalue()


def cue_text(text: str) -> str:
    """Escape text for a WebVTT cue: one line, no tags, no arrow."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(escaped.split())


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(max(0, milliseconds), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}"
