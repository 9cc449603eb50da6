"""ActivityNet's JSON form (``database``) as rows by video id, for what only carries annotations along."""

from __future__ import annotations

import json
from typing import Any

from pal_ds import storage
from pal_ds.config.base import ConfigError


def read_database(url: str) -> dict[str, Any]:
    """Return ``database`` by id without a leading ``v_``.

    Raises:
        ConfigError: not of that form.
        StorageError: it can't be read.
    """
    try:
        document = json.loads(storage.read_bytes(url, retry=storage.AT_START))
        return {str(name).removeprefix("v_"): dict(row) for name, row in document["database"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = 'expected ActivityNet\'s form {"database": {id: …}}'
        raise ConfigError("--annotations", storage.redact(url), f"{form} ({error!r})") from error
