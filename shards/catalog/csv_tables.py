"""Reads CSVs of clips: Kinetics lists as published, and plain ``path[,start,end,split,label]``."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
from collections.abc import Iterator
from typing import IO

from pal_ds import storage

from ..errors import UsageError

_KINETICS = ("youtube_id", "time_start", "time_end")


@dataclasses.dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a table.

    Attributes:
        identity: id or path with the span: the source's identity.
        video: id (Kinetics) or path (plain) of the video.
        start: seconds, or None.
        end: seconds, or None.
        label: class name, or None.
        split: as written, or None.
        error: why the line can't be used, or None.
    """

    identity: str
    video: str
    start: float | None = None
    end: float | None = None
    label: str | None = None
    split: str | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A CSV that has been looked at: where it lies and whether its rows name ids or paths."""

    url: str
    kinetics: bool

    def rows(self) -> Iterator[TableRow]:
        """Yield the table's rows in order; broken ones carry their error."""
        read = _kinetics_row if self.kinetics else _plain_row
        name = self.url.rpartition("/")[2]
        fields = (
            (*_KINETICS, "label", "split") if self.kinetics else ("path", "start", "end", "label", "split")
        )
        with _opened(self.url) as file:
            lines = _reader(self.url, file)
            columns = [name.strip() for name in next(lines)]
            places = [columns.index(field) if field in columns else len(columns) for field in fields]
            blanks = [""] * (len(columns) + 1)
            for number, line in enumerate(lines, start=2):
                if line:
                    padded = (
                        line + blanks[len(line) :]
                        if len(line) <= len(columns)
                        else [*line[: len(columns)], ""]
                    )
                    yield read([padded[place] for place in places], f"{name}:{number}")


def is_table(source: str) -> bool:
    """Tell whether a SOURCE is a CSV rather than a folder."""
    return source.lower().endswith((".csv", ".tsv"))


def open_table(url: str) -> Table:
    """Look at a table's header.

    Raises:
        UsageError: it does not exist, or has neither form.
    """
    try:
        with _opened(url) as file:
            columns = [name.strip() for name in next(_reader(url, file), [])]
    except (OSError, storage.StorageNotFoundError) as error:
        raise UsageError(f"SOURCE {storage.redact(url)}: can't be read: {error}") from error
    if all(name in columns for name in _KINETICS):
        return Table(url, kinetics=True)
    if "path" in columns:
        return Table(url, kinetics=False)
    raise UsageError(
        f"SOURCE {storage.redact(url)}: the header is {','.join(columns) or 'empty'!r}; expected Kinetics' "
        "label,youtube_id,time_start,time_end,split or path[,start,end,split,label]"
    )


@contextlib.contextmanager
def _opened(url: str) -> Iterator[IO[str]]:
    """Open a table as text; bytes that are not UTF-8 are carried through unchanged."""
    if storage.is_local(url):
        with storage.local_path(url).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
        return
    data = storage.read_bytes(url, retry=storage.AT_START)
    yield io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")


def _reader(url: str, file: IO[str]) -> Iterator[list[str]]:
    return csv.reader(file, delimiter="\t" if url.lower().endswith(".tsv") else ",")


def _kinetics_row(cells: list[str], place: str) -> TableRow:
    video, start, end, label, split = cells
    video = video.strip()
    try:
        first, last = _span(start, end)
    except ValueError as error:
        return TableRow(place, video, label=label or None, split=split or None, error=str(error))
    if not video or first is None or last is None:
        error_text = "youtube_id, time_start or time_end is empty"
        return TableRow(place, video, label=label or None, split=split or None, error=error_text)
    return TableRow(clip_name(video, first, last), video, first, last, label or None, split or None)


def _plain_row(cells: list[str], place: str) -> TableRow:
    path, start, end, label, split = cells
    path = path.strip()
    try:
        first, last = _span(start, end)
    except ValueError as error:
        return TableRow(place, path, label=label or None, split=split or None, error=str(error))
    if not path:
        return TableRow(place, path, label=label or None, split=split or None, error="path is empty")
    identity = path if first is None or last is None else f"{path}#t={span_name(first, last)}"
    return TableRow(identity, path, first, last, label or None, split or None)


def clip_name(video: str, start: float, end: float) -> str:
    """Return the usual name of a Kinetics clip, ``<id>_000299_000309``; fractions of seconds are kept."""
    if start == int(start) and end == int(end):
        return f"{video}_{int(start):06d}_{int(end):06d}"
    return f"{video}#t={span_name(start, end)}"


def span_name(start: float, end: float) -> str:
    """Return a span as it stands in a clip's identity, in seconds."""
    return f"{_seconds(start)},{_seconds(end)}"


def _seconds(value: float) -> str:
    """Return seconds in the short form where that loses nothing, else in full: other spans are other clips."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _span(start: str, end: str) -> tuple[float | None, float | None]:
    if not start.strip() and not end.strip():
        return None, None
    try:
        first, last = float(start), float(end)
    except ValueError as error:
        raise ValueError(f"start {start!r} and end {end!r} are not two numbers of seconds") from error
    if not (math.isfinite(first) and math.isfinite(last) and 0 <= first < last):
        raise ValueError(f"start {start} and end {end} are no span")
    return first, last
