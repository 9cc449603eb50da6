"""Grounding benchmarks: Charades-STA as distributed, and queries in ActivityNet's official JSON form."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from pal_ds.transfer.datasets.annotations import AnnotationError, Query, read_number, read_span
from pal_ds.transfer.datasets.text_file import object_of, read_json, read_text

SENTENCE_FIELDS = ("sentence", "query", "label")
IDENTITY_FIELDS = ("query_id", "qid")


def read_charades_sta(url: str) -> tuple[Query, ...]:
    """Read ``charades_sta_{train,test}.txt``: ``VIDEO START END##SENTENCE`` a line.

    A copy that goes round has one more number before ``##``; it is read too and the number dropped. Four of
    the 12,408 training queries are distributed with their ends exchanged; they are put in order.

    Raises:
        AnnotationError: a line is malformed; the message gives its number.
    """
    queries = []
    for number, line in enumerate(read_text(url).splitlines(), start=1):
        if not line.strip():
            continue
        head, mark, sentence = line.partition("##")
        fields = head.split()
        place = f"line {number}"
        if not mark or len(fields) not in (3, 4):
            raise AnnotationError(url, place, "isn't 'VIDEO START END##SENTENCE'")
        start, end = _in_order(fields[1:3], url, place)
        queries.append(Query(video=fields[0], start=start, end=end, sentence=sentence, identity=sentence))
    return tuple(queries)


def read_charades_durations(url: str) -> dict[str, float]:
    """Read the durations in seconds from ``Charades_v1_{train,test}.csv`` (columns ``id`` and ``length``).

    Raises:
        AnnotationError: a column is missing or a length isn't a number.
    """
    reader = csv.DictReader(io.StringIO(read_text(url)))
    if not {"id", "length"} <= set(reader.fieldnames or ()):
        raise AnnotationError(url, "line 1", "has no columns 'id' and 'length'")
    durations = {}
    for row in reader:
        duration = read_number(row["length"])
        if not duration > 0:
            raise AnnotationError(
                url, f"line {reader.line_num}", f"length = {row['length']!r} isn't a duration"
            )
        durations[row["id"]] = duration
    return durations


def read_queries(url: str, subset: str | None) -> tuple[Query, ...]:
    """Read queries from either form, told apart by the name of the file.

    Args:
        url: ``.txt`` is Charades-STA; everything else is JSON, ``{"database": {video: {subset, annotations:
            [{segment, sentence}]}}}``; the sentence may be called ``sentence``, ``query`` or ``label``, and a
            ``query_id`` tells equal sentences of one video apart. The flat form of ActivityNet Captions is read
            too: ``{video: {timestamps: [[start, end]], sentences: [text]}}``.
        subset: exactly as the JSON spells it, or ``all``; None for a file without subsets. It has no effect on the
            flat form, which has one file a subset.

    Raises:
        AnnotationError: malformed, or no such subset.
    """
    if url.lower().endswith(".txt"):
        return read_charades_sta(url)
    content = read_json(url)
    if isinstance(content, dict) and "database" not in content and _is_flat(content):
        return _read_flat(url, content)
    queries: list[Query] = []
    subsets: set[str] = set()
    for name, entry in object_of(content, "database", url).items():
        place = f"video {name!r}"
        if not isinstance(entry, dict) or not isinstance(entry.get("annotations", []), list):
            raise AnnotationError(url, place, "isn't an object with a list 'annotations'")
        subsets.add(str(entry.get("subset", "(none)")))
        if subset not in (None, "all") and entry.get("subset") != subset:
            continue
        for number, annotation in enumerate(entry.get("annotations", [])):
            queries.append(_read_query(url, name, annotation, f"{place}, annotation {number}"))
    if not queries:
        have = ", ".join(sorted(subsets)) or "no video"
        raise AnnotationError(url, "", f"no query in subset {subset!r}; it has {have}, or say all")
    return tuple(queries)


def _is_flat(content: dict[str, Any]) -> bool:
    return bool(content) and all(
        isinstance(entry, dict) and {"timestamps", "sentences"} <= entry.keys() for entry in content.values()
    )


def _read_flat(url: str, content: dict[str, Any]) -> tuple[Query, ...]:
    queries = []
    for name, entry in content.items():
        place = f"video {name!r}"
        spans, sentences = entry["timestamps"], entry["sentences"]
        if not isinstance(spans, list) or not isinstance(sentences, list) or len(spans) != len(sentences):
            raise AnnotationError(url, place, "doesn't have as many 'timestamps' as 'sentences'")
        for number, (span, sentence) in enumerate(zip(spans, sentences, strict=True)):
            start, end = read_span(span, url, f"{place}, timestamp {number}")
            video, text = name.removeprefix("v_"), str(sentence)
            queries.append(Query(video=video, start=start, end=end, sentence=text, identity=text))
    return tuple(queries)


def query_identity(entry: dict[str, Any]) -> str | None:
    """Say what a prediction or annotation names its query by: its id, else its sentence, else nothing."""
    for field in (*IDENTITY_FIELDS, *SENTENCE_FIELDS):
        if entry.get(field) is not None:
            return str(entry[field])
    return None


def _in_order(fields: list[str], url: str, place: str) -> tuple[float, float]:
    ends = [read_number(field) for field in fields]
    return read_span(sorted(ends) if all(map(math.isfinite, ends)) else fields, url, place)


def _read_query(url: str, video: str, annotation: Any, place: str) -> Query:
    identity = query_identity(annotation) if isinstance(annotation, dict) else None
    if identity is None:
        raise AnnotationError(url, place, "has no 'sentence'")
    start, end = read_span(annotation.get("segment"), url, place)
    sentence = next((str(annotation[field]) for field in SENTENCE_FIELDS if annotation.get(field)), "")
    return Query(video=video, start=start, end=end, sentence=sentence, identity=identity)
