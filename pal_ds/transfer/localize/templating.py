"""Templates of the pages: everything is escaped, styles and the script are inline, nothing is fetched."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from pal_ds.pages.stylesheet import stylesheet

#: Colours of classes: hues as far apart as eyes need them, the first ones first.
_HUES = (205, 25, 145, 330, 265, 50, 180, 0, 95, 300)


def render(template: str, **values: Any) -> str:
    """Render a template of this package with the stylesheet and the script at hand."""
    return (
        _environment().get_template(template).render(style=stylesheet("actions"), script=_script(), **values)
    )


def link(path: str) -> str:
    """Return a file's relative path as a URL; names in no encoding keep their bytes."""
    return quote(path, errors="surrogateescape")


def clock(seconds: float) -> str:
    """Return a moment as players show it: ``0:07.4``, ``12:30.0``, ``1:02:03.5``."""
    tenths = round(10 * seconds)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


def hue(number: int) -> int:
    """Return the hue of the n-th class, in degrees."""
    return (_HUES[number % len(_HUES)] + 12 * (number // len(_HUES))) % 360


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pal_ds.transfer.localize", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = clock
    return environment


@functools.cache
def _script() -> str:
    folder = importlib.resources.files("pal_ds.transfer.localize") / "templates"
    return folder.joinpath("player.js").read_text(encoding="utf-8")
