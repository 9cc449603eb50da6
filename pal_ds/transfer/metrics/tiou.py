"""Temporal segments: their overlap, and the tIoU thresholds a metric is taken at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ACTIVITYNET_TIOU = "0.5:0.95:0.05"
THUMOS_TIOU = "0.3:0.7:0.1"
GROUNDING_TIOU = "0.3:0.7:0.2"


def tiou(first_n2: Floats, second_n2: Floats, *, equal_empty: bool = False) -> Floats:
    """Temporal intersection over union, elementwise with broadcasting over all axes but the last.

    Two segments of zero length have an empty union. The official code divides 0 by 0 there: in its proposal
    task the resulting NaN is a miss, which is 0 here; in its detection task a hit, wherever the two lie. We keep
    the hit where they are equal (annotations scored against themselves then give 100) and differ on purpose
    where they aren't.

    Args:
        first_n2: segments ``(start, end)`` in seconds, ``end >= start``; any leading shape.
        second_n2: segments that broadcast against ``first_n2``.
        equal_empty: whether two equal segments of zero length overlap by 1 (detection) or 0.

    Returns:
        Overlaps in [0, 1], float64, the broadcast leading shape.
    """
    shared = np.minimum(first_n2[..., 1], second_n2[..., 1]) - np.maximum(first_n2[..., 0], second_n2[..., 0])
    shared = np.clip(shared, 0.0, None)
    # The official code's own order of operations: overlaps on a threshold must round the same way.
    union = (second_n2[..., 1] - second_n2[..., 0]) + (first_n2[..., 1] - first_n2[..., 0]) - shared
    overlap: Floats = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    if equal_empty:
        overlap[(union <= 0) & (first_n2[..., 0] == second_n2[..., 0])] = 1.0
    return overlap


def parse_thresholds(text: str) -> Floats:
    """Read ``START:STOP:STEP`` (stop included) or one number into ascending tIoU thresholds.

    The values are those of ``numpy.linspace(START, STOP, n)``, bit for bit, as in the official evaluators: a
    prediction that overlaps by exactly a threshold is then judged as they judge it.

    Args:
        text: for example ``0.5:0.95:0.05`` or ``0.5``.

    Returns:
        Thresholds, float64 [K].

    Raises:
        ValueError: not three numbers, out of (0, 1], or STOP isn't START plus a whole number of STEPs.
    """
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = [numbers[0], numbers[0], 1.0]
    if len(numbers) != 3:
        raise ValueError(f"tiou = {text!r}: give START:STOP:STEP, for example {ACTIVITYNET_TIOU}")
    start, stop, step = numbers
    if not (0.0 < start <= stop <= 1.0 and 0.0 < step <= 1.0):
        raise ValueError(f"tiou = {text!r}: thresholds lie in (0, 1], START <= STOP, STEP > 0")
    steps = round((stop - start) / step)
    if abs(start + steps * step - stop) > 1e-9:
        raise ValueError(f"tiou = {text!r}: STOP must be START plus a whole number of STEPs")
    return np.linspace(start, stop, steps + 1)


def threshold_name(threshold: float) -> str:
    """Name a threshold as people write it: 0.30000000000000004 is ``0.3``."""
    return f"{round(threshold, 6):g}"
