"""Reading a small text or JSON file by URL, with one-line errors."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pal_ds.transfer.datasets.annotations import AnnotationError


def read_raw(url: str) -> bytes:
    """Read a whole file; a plain path needs no storage client, so a local command starts fast.

    Raises:
        AnnotationError: it isn't there or can't be read.
    """
    try:
        if "://" not in url:
            return Path(url).read_bytes()
        from pal_ds import storage

        try:
            return storage.read_bytes(url)
        except storage.StorageError as error:
            raise AnnotationError(storage.redact(url), "", str(error)) from None
    except OSError as error:
        raise AnnotationError(url, "", error.strerror or str(error)) from None


def read_text(url: str) -> str:
    """Read a whole UTF-8 file, with or without a byte order mark.

    Raises:
        AnnotationError: it can't be read or isn't UTF-8.
    """
    try:
        return read_raw(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(url, f"byte {error.start}", "isn't UTF-8 text") from None


def read_object(url: str, field: str) -> dict[str, Any]:
    """Read a JSON file and give the object under ``field`` (``database``, ``results``).

    Raises:
        AnnotationError: not JSON, a name given twice, or no such object in it.
    """
    return object_of(read_json(url), field, url)


def object_of(content: Any, field: str, url: str) -> dict[str, Any]:
    """Give the object under ``field`` of a file's content.

    Raises:
        AnnotationError: there is none.
    """
    found = content.get(field) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise AnnotationError(url, "", f"has no object {field!r}, so it isn't in ActivityNet's official form")
    return found


def read_json(url: str) -> Any:
    """Read a JSON file.

    Raises:
        AnnotationError: not JSON, or an object names something twice, of which all but the last would be lost.
    """
    try:
        return json.loads(read_text(url), object_pairs_hook=_without_repeats)
    except _RepeatedNameError as error:
        raise AnnotationError(url, "", f"names {error.args[0]!r} twice in one object") from None
    except json.JSONDecodeError as error:
        raise AnnotationError(url, f"line {error.lineno}", f"isn't JSON: {error.msg}") from None
    except RecursionError:
        raise AnnotationError(url, "", "isn't JSON this can read: nested too deep") from None
    except ValueError as error:
        raise AnnotationError(url, "", f"isn't JSON this can read: {error}") from None


class _RepeatedNameError(Exception):
    pass


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _RepeatedNameError(counts.most_common(1)[0][0])
    return found
