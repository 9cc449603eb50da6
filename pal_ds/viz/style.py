"""Colours and sizes that all pictures share, and figures turned into bytes."""

from __future__ import annotations

import base64
import io
from typing import Any

ACTION = "#d1495b"
BACKGROUND = "#8d99a6"
ACCENT = "#2a6f97"
SECOND = "#e09f3e"
GOOD = "#3a7d44"
INK = "#1f2933"
#: Of pictures with frames in pages: an eighth of a PNG's bytes, and labels stay sharp.
WEBP_QUALITY = 82


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure of ``width`` by ``height`` inches that no global state knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110)


def to_bytes(figure: Any, kind: str = "png", *, transparent: bool = False) -> bytes:
    """Render a figure as ``png``, ``svg`` or ``webp``; equal figures give equal bytes."""
    from matplotlib import rc_context

    file = io.BytesIO()
    stamps: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "png": {"Software": None}}
    lossy = {"pil_kwargs": {"quality": WEBP_QUALITY, "method": 6}} if kind == "webp" else {}
    with rc_context({"svg.hashsalt": "pal-ds", "svg.fonttype": "none"}):
        figure.savefig(
            file,
            format=kind,
            metadata=stamps.get(kind),
            transparent=transparent,
            bbox_inches="tight",
            **lossy,
        )
    return file.getvalue()


def data_uri(data: bytes) -> str:
    """Return a picture's bytes as a ``data:`` URI; PNG, WebP and SVG are told by their first bytes."""
    mime = "image/png" if data.startswith(b"\x89PNG") else "image/svg+xml"
    if data.startswith(b"RIFF"):
        mime = "image/webp"
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
