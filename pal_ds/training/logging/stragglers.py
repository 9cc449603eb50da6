"""Which rank holds the others up: every rank's own time of a logged step, compared with the median."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Straggler:
    """A rank that was slower than the median for several log rows in a row.

    Attributes:
        rank: its number.
        seconds: its own time of the latest logged step.
        median: the median rank's.
        rows: log rows in a row in which it was the slowest and too slow.
    """

    rank: int
    seconds: float
    median: float
    rows: int


class Stragglers:
    """Finds the slowest rank of each log row, and tells of one that stays too slow.

    Args:
        factor: how many times the median is too slow; 0 tells of none.
        rows: log rows in a row after which it is told. It is told once until the rank has kept up again.
    """

    def __init__(self, *, factor: float, rows: int) -> None:
        self._factor = factor
        self._rows = rows
        self._rank = -1
        self._in_a_row = 0

    @staticmethod
    def row(seconds: Sequence[float]) -> dict[str, float]:
        """Return the fields of a log row: the slowest rank, its own seconds, and the median's.

        Of an even number of ranks the lower median is taken: of two, the faster one.

        Args:
            seconds: own time of the logged step, by rank.
        """
        slowest = max(range(len(seconds)), key=lambda rank: (seconds[rank], -rank))
        return {
            "slowest_rank": slowest,
            "slowest_rank_seconds": seconds[slowest],
            "median_rank_seconds": statistics.median_low(seconds),
        }

    def see(self, seconds: Sequence[float]) -> Straggler | None:
        """Take in a log row; return whom to tell of, if anybody."""
        found = self.row(seconds)
        rank, slowest, median = (int(found["slowest_rank"]), *list(found.values())[1:])
        if not self._factor or slowest <= self._factor * median:
            self._rank, self._in_a_row = -1, 0
            return None
        self._in_a_row = self._in_a_row + 1 if rank == self._rank else 1
        self._rank = rank
        if self._in_a_row != self._rows:
            return None
        return Straggler(rank, slowest, median, self._in_a_row)
