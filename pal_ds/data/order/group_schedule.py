"""Which groups a rank and its workers build, and what replaces a broken clip (docs/design.md, "Order of data")."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from pal_ds.config.base import ConfigError
from pal_ds.data.order.epoch_order import (
    ClipPosition,
    EpochOrder,
    EpochPlan,
    PartPlace,
    allowed_world_sizes,
)
from pal_ds.data.order.mix_order import MixOrder
from pal_ds.data.order.mix_plan import MixPlan
from pal_ds.data.order.slices import IntArray
from pal_ds.data.rng import Draws

#: Stand-ins tried from the group's own window, then from its lane, before the whole epoch is drawn from.
ATTEMPTS_PER_SCOPE = 8
#: Stand-ins tried for one clip before the set is called unusable.
MAX_ATTEMPTS = 64


@dataclasses.dataclass(frozen=True)
class WindowPart:
    """Clips of a group that come from one window.

    Attributes:
        unit: names the window; all groups that use it go to one worker.
        count: clips of the group.
        rest: int64 [n, 2], clips of this group and of all later groups of the unit.
        source: number of the source; 0 where there is one set.
        pass_number: which pass of the epoch over that source.
    """

    unit: tuple[int, ...]
    count: int
    rest: IntArray
    source: int = 0
    pass_number: int = 0


@dataclasses.dataclass(frozen=True)
class GroupTask:
    """One group to build.

    Attributes:
        number: its number among this rank's groups since step 0.
        epoch: epoch it belongs to.
        step: optimizer step since the start of the run.
        group: its number in the epoch.
        clips: the clips of the group.
        parts: where they come from, in their order.
    """

    number: int
    epoch: int
    step: int
    group: int
    clips: tuple[ClipPosition, ...]
    parts: tuple[WindowPart, ...]

    def part_of(self, place: int) -> int:
        """Return the number of the part that the clip at ``place`` of the group belongs to."""
        ends = itertools.accumulate(part.count for part in self.parts)
        return next(number for number, end in enumerate(ends) if place < end)

    def sources(self) -> list[int]:
        """Return the number of the source of each clip."""
        return [part.source for part in self.parts for _ in range(part.count)]

    def draw_prefixes(self) -> list[str]:
        """Return for each clip what stands before its key in the names of random draws.

        Keys of two sources may be equal, and a small source comes several times an epoch: their draws differ.
        """
        return [
            f"{part.source}/{part.pass_number}/" if part.source or part.pass_number else ""
            for part in self.parts
            for _ in range(part.count)
        ]


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
        windows: dict[tuple[int, int], tuple[tuple[int, ...], IntArray]] = {}
        for number in itertools.count(start):
            if self.owner(number, workers) != worker:
                continue
            step, index = divmod(number, len(self._positions))
            epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
            group = step_in_epoch * plan.groups_per_step + self._positions[index]
            parts: list[WindowPart] = []
            clips: list[ClipPosition] = []
            for place in self._order(epoch).parts(group):
                slot, unit = (place.lane, place.source), (epoch, place.lane, place.window, place.source)
                if slot not in windows or windows[slot][0] != unit:
                    windows[slot] = unit, self._order(epoch).rows(place)
                rest = windows[slot][1][place.offset :]
                parts.append(WindowPart(unit, place.size, rest, place.source, place.pass_number))
                clips += positions_of(rest[: place.size])
            yield GroupTask(
                number=number, epoch=epoch, step=step, group=group, clips=tuple(clips), parts=tuple(parts)
            )

    def stand_in(self, task: GroupTask, place: int, attempt: int) -> ClipPosition | None:
        """Return the clip that replaces the one at ``place`` of the group: of its window, then lane, then epoch.

        It is of the same source, and a function of (seed, epoch, lane, position, attempt) alone; None where the draw
        hits the group itself.
        """
        order = self._order(task.epoch)
        part: PartPlace = order.parts(task.group)[task.part_of(place)]
        first, last = order.scopes(part)[min(attempt // ATTEMPTS_PER_SCOPE, 2)]
        draws = Draws(self.seed, task.epoch, f"lane {part.lane}", f"stand-in {task.group} {place} {attempt}")
        position = np.asarray([draws.integer(first, last - 1)], dtype=np.int64)
        if isinstance(order, MixOrder):
            return other_than(task, order.locate(part, position))
        return other_than(task, order.locate(position))

    @functools.lru_cache(maxsize=2)  # noqa: B019 - a schedule lives as long as its process
    def _order(self, epoch: int) -> EpochOrder | MixOrder:
        return order_of(self.plan, self.seed, epoch)


def order_of(plan: EpochPlan, seed: int, epoch: int) -> EpochOrder | MixOrder:
    """Return the order of an epoch: of one set, or of a mix."""
    return MixOrder(plan, seed, epoch) if isinstance(plan, MixPlan) else EpochOrder(plan, seed, epoch)


def positions_of(rows: IntArray) -> tuple[ClipPosition, ...]:
    """Return rows of (shard, clip) as positions."""
    return tuple(ClipPosition(int(shard), int(clip)) for shard, clip in rows)


def other_than(task: GroupTask, rows: IntArray) -> ClipPosition | None:
    """Return the clip of the only row, or None where it is one of the group."""
    found = positions_of(rows)[0]
    return None if found in task.clips else found
