"""The stylesheet of every HTML page."""

from __future__ import annotations

import functools
import importlib.resources


@functools.cache
def stylesheet(more: str = "") -> str:
    """Return ``page.css``, for the style element of a page: pages are single files, so nothing is linked.

    ``more`` names a second sheet of this package, for what only some pages show; it comes after the first.
    It has no ``</`` and needs no escaping. Content lies in ``<main>``, and follows the reader's light or dark scheme.
    """
    folder = importlib.resources.files("pal_ds.pages")
    names = ("page", more) if more else ("page",)
    return "".join(folder.joinpath(f"{name}.css").read_text(encoding="utf-8") for name in names)
