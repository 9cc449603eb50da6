"""The stylesheet of every HTML page."""

from __future__ import annotations

import functools
import importlib.resources


@functools.cache
def stylesheet() -> str:
    """Return ``page.css``, for the style element of a page: pages are single files, so nothing is linked.

    It has no ``</`` and needs no escaping. Content lies in ``<main>``, and follows the reader's light or dark scheme.
    """
    return importlib.resources.files("pal_ds.pages").joinpath("page.css").read_text(encoding="utf-8")
