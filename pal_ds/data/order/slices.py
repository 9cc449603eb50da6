"""A pass over shards as a permutation of their slices: one virtual sequence of clips that stays near its shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pal_ds.data.rng import Draws

IntArray = npt.NDArray[np.int64]


class SlicePermutation:
    """Shards cut into slices of nearly equal length, in a random order.

    Args:
        shard_clips: clips of each shard.
        slice_clips: about how many clips a slice holds.
        draws: decides the order.
        first_shard: number of the first shard, where others are counted before it.
    """

    def __init__(
        self, shard_clips: Sequence[int], slice_clips: int, draws: Draws, *, first_shard: int = 0
    ) -> None:
        counts = np.asarray(shard_clips, dtype=np.int64)
        pieces = -(-counts // slice_clips)
        shard = np.repeat(np.arange(len(counts), dtype=np.int64), pieces)
        number = np.arange(len(shard), dtype=np.int64) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        first = number * counts[shard] // pieces[shard]
        last = (number + 1) * counts[shard] // pieces[shard]
        order = draws.permutation(len(shard))
        self._shard, self._first = shard[order] + first_shard, first[order]
        self._ends: IntArray = np.cumsum((last - first)[order])

    def locate(self, positions: IntArray) -> IntArray:
        """Return the clips at positions of the virtual sequence, as rows of (shard, clip)."""
        piece = np.searchsorted(self._ends, positions, side="right")
        before = np.where(piece > 0, self._ends[piece - 1], 0)
        return np.stack([self._shard[piece], self._first[piece] + positions - before], axis=1)
