"""Which groups a rank and its workers build, and what replaces a broken clip (docs/design.md, "Order of data")."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from pal_ds.config.base import ConfigError
from pal_ds.data.order.epoch_order import ClipPosition, EpochOrder, EpochPlan, IntArray, allowed_world_sizes
from pal_ds.data.rng import Draws

#: Stand-ins tried from the group's own window, then from its lane, before the whole epoch is drawn from.
ATTEMPTS_PER_SCOPE = 8
#: Stand-ins tried for one clip before the set is called unusable.
MAX_ATTEMPTS = 64


@dataclasses.dataclass(frozen=True)
class GroupTask:
    """One group to build.

    Attributes:
        number: its number among this rank's groups since step 0.
        epoch: epoch it belongs to.
        step: optimizer step since the start of the run.
        group: its number in the epoch.
        unit: names the window it comes from; all groups of a unit go to one worker.
        clips: the clips of the group.
        rest: clips of this group and of all later groups of the unit.
    """

    number: int
    epoch: int
    step: int
    group: int
    unit: tuple[int, int, int]
    clips: tuple[ClipPosition, ...]
    rest: IntArray


class Schedule(Protocol):
    """The groups of one rank, in order."""

    @property
    def most_workers(self) -> int:
        """How many workers can have something to do."""

    def owner(self, number: int, workers: int) -> int:
        """Return the worker that builds group ``number`` of the rank."""

    def tasks(self, start: int, worker: int, workers: int) -> Iterator[GroupTask]:
        """Yield the groups of one worker, from the rank's group ``start`` on."""

    def stand_in(self, task: GroupTask, place: int, attempt: int) -> ClipPosition | None:
        """Return the clip that replaces the one at ``place`` of the group; None if that draw is no other clip."""


class TrainSchedule:
    """The endless stream of one rank's groups, in the order of optimizer steps and micro-steps.

    Args:
        plan: geometry of an epoch.
        seed: the run's seed.
        rank: this rank.
        world_size: number of ranks.
        accumulation: micro-steps per optimizer step, A.

    Raises:
        ConfigError: the world size does not divide k / A.
    """

    def __init__(
        self, plan: EpochPlan, *, seed: int, rank: int, world_size: int, accumulation: int = 1
    ) -> None:
        allowed = allowed_world_sizes(plan.global_batch, plan.group_size, accumulation)
        if world_size not in allowed:
            raise ConfigError(
                "world size",
                world_size,
                f"it must divide global_batch / group_size / accumulation = "
                f"{plan.groups_per_step // accumulation}; use one of {', '.join(map(str, allowed))}",
            )
        self.plan = plan
        self.seed = seed
        self.groups_per_micro_step = plan.groups_per_step // (accumulation * world_size)
        self.accumulation = accumulation
        span = plan.groups_per_step // accumulation
        # Positions within a step, in the order in which this rank uses them.
        self._positions = [
            micro * span + rank * self.groups_per_micro_step + index
            for micro in range(accumulation)
            for index in range(self.groups_per_micro_step)
        ]

    @property
    def groups_per_step(self) -> int:
        """Groups of this rank in an optimizer step, over all micro-steps."""
        return len(self._positions)

    @property
    def lanes(self) -> int:
        """Lanes that this rank's workers share."""
        return len(self._positions) * self.plan.lane_rounds

    @property
    def most_workers(self) -> int:
        """How many workers can have something to do: one a lane."""
        return self.lanes

    def owner(self, number: int, workers: int) -> int:
        """Return the worker that owns the lane of the rank's group ``number``."""
        step, index = divmod(number, len(self._positions))
        in_round = step % self.plan.steps_per_epoch % self.plan.lane_rounds
        return (in_round * len(self._positions) + index) % max(1, workers)

    def tasks(self, start: int, worker: int = 0, workers: int = 1) -> Iterator[GroupTask]:
        """Yield the groups of one worker, from the rank's group ``start`` on, without end."""
        plan = self.plan
        if worker >= self.lanes:
            return
        windows: dict[int, tuple[tuple[int, int, int], IntArray]] = {}
        for number in itertools.count(start):
            if self.owner(number, workers) != worker:
                continue
            step, index = divmod(number, len(self._positions))
            epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
            group = step_in_epoch * plan.groups_per_step + self._positions[index]
            place = self._order(epoch).place(group)
            unit = (epoch, place.lane, place.window)
            if place.lane not in windows or windows[place.lane][0] != unit:
                windows[place.lane] = unit, self._order(epoch).window(place.lane, place.window)
            rest = windows[place.lane][1][place.offset :]
            yield GroupTask(
                number=number,
                epoch=epoch,
                step=step,
                group=group,
                unit=unit,
                clips=_positions_of(rest[: plan.group_size]),
                rest=rest,
            )

    def stand_in(self, task: GroupTask, place: int, attempt: int) -> ClipPosition | None:
        """Return the clip that replaces the one at ``place`` of the group: of its window, then lane, then epoch.

        A function of (seed, epoch, lane, position, attempt) alone; None where the draw hits the group itself.
        """
        epoch, lane, window = task.unit
        order = self._order(epoch)
        spans = (order.window_span(lane, window), order.lane_span(lane), (0, self.plan.clips))
        first, last = spans[min(attempt // ATTEMPTS_PER_SCOPE, 2)]
        draws = Draws(self.seed, epoch, f"lane {lane}", f"stand-in {task.group} {place} {attempt}")
        position = draws.integer(first, last - 1)
        return _other(order.locate(np.asarray([position], dtype=np.int64)), task)

    @functools.lru_cache(maxsize=2)  # noqa: B019 - a schedule lives as long as its process
    def _order(self, epoch: int) -> EpochOrder:
        return EpochOrder(self.plan, self.seed, epoch)


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
    ) -> None:
        self.plan = plan
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
                unit=(0, 0, group),
                clips=_positions_of(clips),
                rest=clips,
            )

    def stand_in(self, task: GroupTask, place: int, attempt: int) -> ClipPosition | None:
        """Return the clip that replaces the one at ``place`` of the group: any other of the split."""
        draws = Draws(self.seed, 0, "validation", f"stand-in {task.group} {place} {attempt}")
        position = draws.integer(0, self.plan.clips - 1)
        return _other(self._order().locate(np.asarray([position], dtype=np.int64)), task)

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


def _positions_of(rows: IntArray) -> tuple[ClipPosition, ...]:
    return tuple(ClipPosition(int(shard), int(clip)) for shard, clip in rows)


def _other(rows: IntArray, task: GroupTask) -> ClipPosition | None:
    found = _positions_of(rows)[0]
    return None if found in task.clips else found
