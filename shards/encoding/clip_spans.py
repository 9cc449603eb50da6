"""Tells whether a file holds a clip's whole video or is already the clip, and what is too long for one."""

from __future__ import annotations

from ..catalog.rows import CUT, WHOLE, Row
from ..errors import Rejected


def resolve_span(row: Row, duration: float) -> str:
    """Tell whether a file named only by its video's id is that video, or already the clip.

    Kinetics copies come both ways. A span that lies inside the file is cut out; a file about as long as the
    span whose end lies beyond the file is the clip itself.

    Args:
        row: an input with a span.
        duration: of its file, in seconds; 0 where unknown.

    Returns:
        ``cut`` or ``whole``.

    Raises:
        Rejected: the span lies beyond the file.
    """
    assert row.start is not None and row.end is not None
    length = row.end - row.start
    if duration <= 0 or row.end <= duration + 0.5:
        return CUT
    if abs(duration - length) <= max(1.5, 0.15 * length):
        return WHOLE
    if row.start < duration:
        return CUT
    raise Rejected("probe", f"the span {row.start:g}-{row.end:g} s lies beyond the video's {duration:.1f} s")


def too_long(seconds: float, limit: float) -> str:
    """Return the error of a clip above ``--max-seconds``."""
    return f"{seconds:.1f} s are more than --max-seconds {limit:g}: cut it with a CSV of spans"
