"""One pass over the validation clips, dealt to ranks (docs/design.md, "Validation")."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from pal_ds.config.base import ConfigError
from pal_ds.data.order.epoch_order import ClipPosition, EpochOrder, EpochPlan
from pal_ds.data.order.group_schedule import GroupTask, WindowPart, other_than, positions_of
from pal_ds.data.order.slices import IntArray
from pal_ds.data.rng import Draws


class ValidationSchedule:
    """One pass over a split with the draws of epoch 0, groups dealt to ranks in turn (docs/design.md, "Validation").

    Every clip is used. Groups have ``group_size`` clips; the last one may be smaller, and where fewer than three
    would be left for it, it borrows from the group before, or (for tiny groups) joins it.

    Args:
        plan: only its shards and slices are used.
        group_size: clips of a group.
        seed: the run's seed.
        rank: this rank.
        world_size: number of ranks; some may get a group less, or none.
        max_groups: use only the first so many groups; 0 for all.
        first_shards: number of the first shard of each source, where the plan holds several.

    Raises:
        ConfigError: the split has fewer than three clips.
    """

    def __init__(
        self,
        plan: EpochPlan,
        *,
        group_size: int,
        seed: int,
        rank: int,
        world_size: int,
        max_groups: int = 0,
        first_shards: Sequence[int] = (0,),
    ) -> None:
        self.plan = plan
        self._first_shards = np.asarray(first_shards, dtype=np.int64)
        self.seed = seed
        self._sizes = validation_group_sizes(plan.clips, group_size)
        if max_groups:
            self._sizes = self._sizes[:max_groups]
        self._starts = [0, *itertools.accumulate(self._sizes)]
        self._mine = range(rank, len(self._sizes), world_size)

    def __len__(self) -> int:
        return len(self._mine)

    @property
    def largest_group(self) -> int:
        """Clips of the largest group."""
        return max(self._sizes)

    @property
    def most_workers(self) -> int:
        """How many workers can have something to do: one a group."""
        return len(self._mine)

    def places(self, group: int) -> IntArray:
        """Return the places of a group's clips in the global order of the pass, int64 [clips of the group]."""
        return np.arange(self._starts[group], self._starts[group + 1], dtype=np.int64)

    def owner(self, number: int, workers: int) -> int:
        """Return the worker that builds group ``number`` of the rank."""
        return number % max(1, workers)

    def tasks(self, start: int, worker: int = 0, workers: int = 1) -> Iterator[GroupTask]:
        """Yield the groups of one worker, from the rank's group ``start`` on."""
        order = self._order()
        for number in range(start, len(self._mine)):
            if self.owner(number, workers) != worker:
                continue
            group = self._mine[number]
            span = np.arange(self._starts[group], self._starts[group + 1], dtype=np.int64)
            clips = order.locate(span)
            yield GroupTask(
                number=number,
                epoch=0,
                step=0,
                group=group,
                clips=positions_of(clips),
                parts=tuple(self._parts(group, clips)),
            )

    def _parts(self, group: int, clips: IntArray) -> Iterator[WindowPart]:
        """Yield the runs of clips of one source; all of a group is read together."""
        sources = np.searchsorted(self._first_shards, clips[:, 0], side="right") - 1
        cuts = [0, *(np.flatnonzero(np.diff(sources)) + 1).tolist(), len(clips)]
        for number, (first, last) in enumerate(itertools.pairwise(cuts)):
            yield WindowPart((0, group, number), last - first, clips[first:last], int(sources[first]))

    def stand_in(self, task: GroupTask, place: int, attempt: int) -> ClipPosition | None:
        """Return the clip that replaces the one at ``place`` of the group: any other of the split."""
        draws = Draws(self.seed, 0, "validation", f"stand-in {task.group} {place} {attempt}")
        position = draws.integer(0, self.plan.clips - 1)
        return other_than(task, self._order().locate(np.asarray([position], dtype=np.int64)))

    @functools.lru_cache(maxsize=1)  # noqa: B019 - a schedule lives as long as its process
    def _order(self) -> EpochOrder:
        return EpochOrder(self.plan, self.seed, 0)


def validation_group_sizes(clips: int, group_size: int) -> list[int]:
    """Return the sizes of the groups of one pass over ``clips`` clips, none below three.

    Raises:
        ConfigError: there are fewer than three clips.
    """
    if clips < 3:
        raise ConfigError("validation clips", clips, "a group needs 3; raise --val-fraction when sharding")
    full, left = divmod(clips, group_size)
    sizes = [group_size] * full
    if left >= 3:
        sizes.append(left)
    elif left and sizes and sizes[-1] >= 6 - left:
        sizes[-1] -= 3 - left
        sizes.append(3)
    elif left:
        sizes[-1] += left
    return sizes
