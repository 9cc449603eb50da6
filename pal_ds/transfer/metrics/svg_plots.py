"""What the pages of all tasks share: figures as SVG inside the page."""

from __future__ import annotations

import io
from typing import Any


def new_axes(width: float, height: float) -> tuple[Any, Any]:
    """Give an empty figure of so many inches and its axes.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("--html needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def to_svg(figure: Any) -> str:
    """Give a figure as an SVG element."""
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    # An XML header and a document type have no place inside an HTML page.
    text = target.getvalue()
    return text[text.index("<svg") :]
