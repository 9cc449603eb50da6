"""How many clips of an epoch each source gives, and which: exact shares without a random draw."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from pal_ds.data.order.slices import IntArray


def apportion(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Divide ``total`` by weight: whole numbers, each within one of its exact share (largest remainder).

    Args:
        total: what is divided.
        weights: above 0; of equal remainders the first is served first.
    """
    exact = [Fraction(weight) for weight in weights]
    whole = sum(exact)
    shares = [total * weight / whole for weight in exact]
    found = [int(share) for share in shares]
    by_remainder = sorted(range(len(found)), key=lambda number: found[number] - shares[number])
    for number in by_remainder[: total - sum(found)]:
        found[number] += 1
    return tuple(found)


class Dealing:
    """Deals the units of an epoch to sources in turn, each source at its rate from the first unit to the last.

    The first source's units are spread evenly over all (Bresenham's line), the second's over those that are left,
    and so on: what any stretch of the epoch holds of a source is within a few units of its share.

    Args:
        quotas: units of each source in the epoch.
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        self._quotas = tuple(quotas)
        self.units = sum(quotas)

    def before(self, units: IntArray) -> IntArray:
        """Return how many of the first ``units`` units each source gives, int64 [sources, *shape of units]."""
        left, of = np.asarray(units, dtype=np.int64), self.units
        rows = []
        for quota in self._quotas[:-1]:
            taken = (left * quota + of // 2) // of if of else np.zeros_like(left)
            rows.append(taken)
            left, of = left - taken, of - quota
        return np.stack([*rows, left])
