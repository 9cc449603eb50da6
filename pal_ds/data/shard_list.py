"""The shards that a worker reads, by number: those of all shard sets of a mix in one row."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pal_ds import storage
from pal_ds.formats.clip_selection import Selection


@dataclasses.dataclass(frozen=True)
class ShardRun:
    """The shards of one set.

    Attributes:
        url: the set.
        names: tar names of the split, in the manifest's order.
        selection: the clips that are used; None for all.
    """

    url: str
    names: tuple[str, ...]
    selection: Selection | None = None


@dataclasses.dataclass(frozen=True)
class ShardList:
    """Shards of one or several sets; small and picklable."""

    runs: tuple[ShardRun, ...]

    @classmethod
    def of(cls, url: str, names: Sequence[str]) -> ShardList:
        """Return the shards of one set."""
        return cls((ShardRun(url, tuple(names)),))

    @functools.cached_property
    def firsts(self) -> list[int]:
        """Number of the first shard of each set."""
        return [0, *itertools.accumulate(len(run.names) for run in self.runs[:-1])]

    def place(self, shard: int) -> tuple[str, str]:
        """Return the set's URL and the tar's name of a shard."""
        run, number = self._found(shard)
        return run.url, run.names[number]

    def label(self, shard: int) -> str:
        """Return what messages call a shard: its name, and its set where there are several."""
        run, number = self._found(shard)
        if len(self.runs) == 1:
            return run.names[number]
        return storage.join(storage.redact(run.url), run.names[number])

    def chosen(self, shard: int) -> npt.NDArray[np.bool_] | None:
        """Return which samples of a shard are used, bool [samples]; None for all."""
        run, number = self._found(shard)
        return None if run.selection is None else run.selection.chosen(number)

    def _found(self, shard: int) -> tuple[ShardRun, int]:
        number = bisect.bisect_right(self.firsts, shard) - 1
        return self.runs[number], shard - self.firsts[number]
