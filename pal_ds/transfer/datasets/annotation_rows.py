"""ActivityNet's JSON form (``database``) as rows by video id, for what only carries annotations along."""

from __future__ import annotations

import json
from typing import Any

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.transfer.datasets.annotations import AnnotationError, read_span


def read_database(url: str) -> dict[str, Any]:
    """Return ``database`` by id without a leading ``v_``.

    Raises:
        ConfigError: not of that form; one line that names the video.
        StorageError: it can't be read.
    """
    try:
        document = json.loads(storage.read_bytes(url, retry=storage.AT_START))
        rows = {str(name).removeprefix("v_"): {**row} for name, row in document["database"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = 'expected ActivityNet\'s form {"database": {id: …}}'
        raise ConfigError("--annotations", storage.redact(url), f"{form} ({error!r:.120})") from error
    for name, row in rows.items():
        _check_parts(row.get("annotations", []), storage.redact(url), f"video {name!r}")
    return rows


def _check_parts(parts: Any, url: str, place: str) -> None:
    if not isinstance(parts, list):
        raise ConfigError("--annotations", url, f"{place}: its 'annotations' are no list")
    for number, part in enumerate(parts):
        try:
            if not isinstance(part, dict):
                raise AnnotationError(url, f"{place}, annotation {number}", "isn't an object")
            if "segment" in part:
                read_span(part["segment"], url, f"{place}, annotation {number}")
        except AnnotationError as error:
            raise ConfigError("--annotations", url, str(error).removeprefix(f"{url}: ")) from None
