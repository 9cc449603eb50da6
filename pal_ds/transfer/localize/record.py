"""What is kept of one localized video: its actions in ActivityNet's form, and where they come from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from pal_ds.formats.shardset import dump_json
from pal_ds.transfer.tasks.predictor import Row

FORMAT = "pal-localization/1"
VERSION = "VERSION 1.3"
#: What an action is called where no classes are told apart.
UNNAMED = "action"


class RecordError(ValueError):
    """A file that is no record of this version."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One video's actions.

    Attributes:
        id: of the video.
        source: where it was read from, without credentials.
        file_bytes: size of its file.
        duration: seconds.
        clips: that were encoded.
        rows: ``{segment, score[, label]}`` by falling score of the segment; seconds from the first frame.
        threshold: score from which an action is shown.
        model: digest of the model.
        begin: second of the file's own time at which its first frame appears; players count from its zero.
        film: ending (``.mp4``) of the file beside this one that the page plays; empty where that is the source.
    """

    id: str
    source: str
    file_bytes: int
    duration: float
    clips: int
    rows: list[Row]
    threshold: float
    model: str
    begin: float = 0.0
    film: str = ""

    def shown(self) -> list[Row]:
        """Return the actions from the threshold on, by falling score."""
        return sorted(
            (row for row in self.rows if row["score"] >= self.threshold), key=lambda row: -row["score"]
        )

    def to_json(self) -> bytes:
        """Return the file's bytes: predictions that ``pal-eval`` reads, the rest below ``external_data``."""
        about = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        rows, name = about.pop("rows"), about.pop("id")
        return dump_json(
            {"version": VERSION, "results": {name: rows}, "external_data": {"format": FORMAT, **about}}
        )

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """Parse a record; fields of later versions are passed over.

        Raises:
            RecordError: no JSON object, another format, or a field is missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            document: Any = json.loads(data)
            about = document["external_data"]
            if about["format"] != FORMAT:
                raise RecordError(f"format is {about['format']!r}, this version reads {FORMAT!r}")
            ((name, rows),) = document["results"].items()
            if "/" in name or "/" in str(about.get("film", "")):
                raise RecordError(f"{name!r} names no file of this folder")
            return cls(
                id=name, rows=rows, **{key: value for key, value in about.items() if key in known - {"id"}}
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError(f"{type(error).__name__}: {error}") from None


def label_of(row: Row) -> str:
    """Return what an action is called."""
    return str(row.get("label", UNNAMED))


def keep(rows: Sequence[Row], *, threshold: float | None, top: int) -> list[Row]:
    """Return the rows from a score on, the best ``top`` of them; in their order.

    Args:
        rows: of one video.
        threshold: lowest score; None keeps all.
        top: most rows; 0 keeps all.
    """
    kept = [row for row in rows if threshold is None or row["score"] >= threshold]
    if top and len(kept) > top:
        best = sorted(range(len(kept)), key=lambda place: -kept[place]["score"])[:top]
        kept = [kept[place] for place in sorted(best)]
    return kept


def official(records: Iterable[Record]) -> dict[str, Any]:
    """Return the actions of many videos in ActivityNet's form."""
    results = {record.id: record.rows for record in records}
    return {"version": VERSION, "results": results, "external_data": {}}
