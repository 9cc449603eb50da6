"""Reads CSVs of clips: Kinetics lists as published, and plain ``path[,start,end,split,label]``."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO

from pal_ds import storage
from shards.errors import UsageError

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
        with _opened(self.url) as file:
            for number, line in enumerate(_reader(self.url, file), start=2):
                yield read(line, f"{PurePosixPath(self.url).name}:{number}")


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
            columns = list(_reader(url, file).fieldnames or [])
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


def _kinetics_row(line: Mapping[str, str | None], place: str) -> TableRow:
    video = (line.get("youtube_id") or "").strip()
    label, split = line.get("label") or None, line.get("split") or None
    try:
        start, end = _span(line.get("time_start"), line.get("time_end"))
    except ValueError as error:
        return TableRow(place, video, label=label, split=split, error=str(error))
    if not video or start is None or end is None:
        return TableRow(
            place, video, label=label, split=split, error="youtube_id, time_start or time_end is empty"
        )
    return TableRow(clip_name(video, start, end), video, start, end, label, split)


def _plain_row(line: Mapping[str, str | None], place: str) -> TableRow:
    video = (line.get("path") or "").strip()
    label, split = line.get("label") or None, line.get("split") or None
    try:
        start, end = _span(line.get("start"), line.get("end"))
    except ValueError as error:
        return TableRow(place, video, label=label, split=split, error=str(error))
    if not video:
        return TableRow(place, video, label=label, split=split, error="path is empty")
    identity = video if start is None or end is None else f"{video}#t={start:g},{end:g}"
    return TableRow(identity, video, start, end, label, split)


def clip_name(video: str, start: float, end: float) -> str:
    """Return the usual name of a Kinetics clip, ``<id>_000299_000309``; fractions of seconds are kept."""
    if start == int(start) and end == int(end):
        return f"{video}_{int(start):06d}_{int(end):06d}"
    return f"{video}#t={start:g},{end:g}"


def _span(start: str | None, end: str | None) -> tuple[float | None, float | None]:
    if not (start or "").strip() and not (end or "").strip():
        return None, None
    try:
        first, last = float(start or ""), float(end or "")
    except ValueError as error:
        raise ValueError(f"start {start!r} and end {end!r} are not two numbers of seconds") from error
    if not (math.isfinite(first) and math.isfinite(last) and 0 <= first < last):
        raise ValueError(f"start {start} and end {end} are no span")
    return first, last


def _reader(url: str, file: IO[str]) -> csv.DictReader[str]:
    return csv.DictReader(file, delimiter="\t" if url.lower().endswith(".tsv") else ",")
