"""What a run has drawn from each shard set of a mix."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from typing import Any

from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.mix_plan import MixPlan


class SourceCounters:
    """Figures of each source, for the rows of a log; none where there is one set.

    Args:
        epoch: geometry of the training splits.
    """

    def __init__(self, epoch: EpochPlan) -> None:
        self._plan = epoch if isinstance(epoch, MixPlan) and len(epoch.sources) > 1 else None
        self._replaced: collections.Counter[int] = collections.Counter()

    def add(self, replaced: Iterable[Mapping[str, Any]]) -> None:
        """Count replaced clips, of all ranks."""
        self._replaced.update(row["source"] for row in replaced if "source" in row)

    def row(self, steps: int) -> dict[str, float]:
        """Return the figures after so many optimizer steps of the run.

        ``source<n>_clips`` and ``source<n>_passes`` (clips by clips of the set) count from the run's first step: they
        follow from the order. ``source<n>_replaced`` counts since the start of this process.
        """
        if self._plan is None:
            return {}
        found: dict[str, float] = {}
        for number, (source, clips) in enumerate(
            zip(self._plan.sources, self._plan.drawn(steps), strict=True)
        ):
            found[f"source{number}_clips"] = clips
            found[f"source{number}_passes"] = clips / source.clips
            found[f"source{number}_replaced"] = self._replaced[number]
        return found
