"""The order of data as a pure function of manifest, seed and epoch, without I/O (docs/design.md, "Order of data").

An epoch is a sequence of groups 0, 1, ...; optimizer step t consumes groups ``[t * k, (t + 1) * k)``. Groups
come from L = k * c lanes: lane l yields the groups g with g mod L = l. All lanes together are one virtual
sequence of clips, the epoch's slice permutation; a lane is an exact contiguous stretch of it, and is cut into
windows that are shuffled inside, clip by clip or in blocks of neighbours. Nothing here depends on ranks or
workers, which is what makes batches equal for any number of them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from pal_ds.config.base import ConfigError
from pal_ds.config.data import check_blocks
from pal_ds.data.order.slices import IntArray, SlicePermutation
from pal_ds.data.rng import Draws
from pal_ds.formats.shardset import SplitEntry


class ClipPosition(NamedTuple):
    """A clip by where it lies: number of its shard in the split's list, and its place in the shard."""

    shard: int
    clip: int


class PartPlace(NamedTuple):
    """Where clips of a group come from: consecutive ones of a shuffled window of one source.

    Attributes:
        lane: the group's lane.
        window: number of the window in the lane, of those of the source.
        offset: first clip of the part in the shuffled window.
        size: clips of the part.
        source: number of the source; 0 where there is one set.
        pass_number: which pass of the epoch over that source.
    """

    lane: int
    window: int
    offset: int
    size: int
    source: int = 0
    pass_number: int = 0


def groups_per_step(global_batch: int, group_size: int) -> int:
    """Return k, the groups of one optimizer step.

    Raises:
        ConfigError: the batch is no multiple of the group size.
    """
    if global_batch < 1 or group_size < 1 or global_batch % group_size:
        raise ConfigError(
            "data.global_batch", global_batch, f"use a multiple of data.group_size = {group_size}"
        )
    return global_batch // group_size


def allowed_world_sizes(global_batch: int, group_size: int, accumulation: int = 1) -> list[int]:
    """Return every world size that can train this batch: the divisors of k / accumulation.

    Raises:
        ConfigError: the batch is no multiple of the group size, or k none of the accumulation.
    """
    k = groups_per_step(global_batch, group_size)
    if accumulation < 1 or k % accumulation:
        raise ConfigError(
            "data.accumulation", accumulation, f"use a divisor of global_batch / group_size = {k}"
        )
    per_micro_step = k // accumulation
    return [size for size in range(1, per_micro_step + 1) if per_micro_step % size == 0]


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """The geometry of an epoch: the same for every epoch, rank and worker.

    Attributes:
        shard_names: tar names of the split, in the manifest's order.
        shard_clips: clips of each shard.
        clip_bytes: mean bytes of a clip in its tar.
        global_batch: videos per optimizer step.
        group_size: videos per group.
        groups_per_step: k.
        lane_rounds: c; a lane is used every c-th step.
        slice_clips: about how many clips a slice holds.
        window_groups: about how many groups a window holds.
        block_clips: clips that lie side by side and stay side by side when a window is shuffled.
    """

    shard_names: tuple[str, ...]
    shard_clips: tuple[int, ...]
    clip_bytes: int
    global_batch: int
    group_size: int
    groups_per_step: int
    lane_rounds: int
    slice_clips: int
    window_groups: int
    block_clips: int = 1

    @classmethod
    def from_manifest(
        cls,
        split: SplitEntry,
        *,
        global_batch: int,
        group_size: int,
        lanes_per_group: int = 8,
        slice_bytes: int = 2 << 20,
        window_slices: int = 4,
        block_clips: int = 1,
    ) -> EpochPlan:
        """Plan the epochs of a split from the manifest's figures alone.

        Raises:
            ConfigError: the batch is no multiple of the group size, or larger than the split; the group size is no
                multiple of the block size.
        """
        check_blocks(block_clips, group_size)
        k = groups_per_step(global_batch, group_size)
        clips = sum(shard.clips for shard in split.shards)
        steps = clips // global_batch
        if steps == 0:
            most = clips // group_size * group_size
            raise ConfigError(
                "data.global_batch",
                global_batch,
                f"the split has {clips} clips; "
                + (
                    f"use a multiple of data.group_size = {group_size}, at most {most}"
                    if most
                    else f"they are fewer than data.group_size = {group_size}: build a larger set"
                ),
            )
        clip_bytes = max(1, round(sum(shard.bytes for shard in split.shards) / clips))
        slice_clips = max(1, round(slice_bytes / clip_bytes))
        return cls(
            shard_names=tuple(shard.name for shard in split.shards),
            shard_clips=tuple(shard.clips for shard in split.shards),
            clip_bytes=clip_bytes,
            global_batch=global_batch,
            group_size=group_size,
            groups_per_step=k,
            lane_rounds=max(1, min(lanes_per_group, steps // 2)),
            slice_clips=slice_clips,
            window_groups=max(2, round(window_slices * slice_clips / group_size)),
            block_clips=block_clips,
        )

    @functools.cached_property
    def clips(self) -> int:
        """Clips of the split."""
        return sum(self.shard_clips)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch, S."""
        return self.clips // self.global_batch

    @property
    def lanes(self) -> int:
        """Number of lanes, L = k * c."""
        return self.groups_per_step * self.lane_rounds

    @property
    def groups_per_epoch(self) -> int:
        """Groups of an epoch, S * k."""
        return self.steps_per_epoch * self.groups_per_step

    @property
    def dropped_clips(self) -> int:
        """Clips left out of every epoch (other ones each time): the incomplete last step."""
        return self.clips - self.steps_per_epoch * self.global_batch

    @property
    def windows_per_lane(self) -> int:
        """Windows that a lane has open at a time."""
        return 1

    @property
    def window_bytes(self) -> int:
        """About how many bytes the largest window of a lane holds."""
        lengths = {self.lane_groups(0), self.lane_groups(self.lanes - 1)}
        largest = max(-(-groups // self.lane_windows(groups)) for groups in lengths)
        return largest * self.group_size * self.clip_bytes

    def lane_groups(self, lane: int) -> int:
        """Return how many groups a lane yields in an epoch."""
        base, extra = divmod(self.steps_per_epoch, self.lane_rounds)
        return base + (1 if lane // self.groups_per_step < extra else 0)

    def lane_start(self, lane: int) -> int:
        """Return the number of groups in the lanes before ``lane``: where its stretch begins, in groups."""
        base, extra = divmod(self.steps_per_epoch, self.lane_rounds)
        return lane * base + min(lane, extra * self.groups_per_step)

    def lane_windows(self, groups: int) -> int:
        """Return into how many windows a lane of that many groups is cut: none has one group, if it can be."""
        return max(1, min(-(-groups // self.window_groups), groups // 2))


class GroupPlace(NamedTuple):
    """Where a group of an epoch comes from.

    Attributes:
        lane: its lane.
        window: number of the window in the lane.
        offset: first clip of the group in the shuffled window.
    """

    lane: int
    window: int
    offset: int


class EpochOrder:
    """The order of one epoch.

    Args:
        plan: the geometry.
        seed: the run's seed.
        epoch: number of the epoch, from 0.
    """

    def __init__(self, plan: EpochPlan, seed: int, epoch: int) -> None:
        self.plan = plan
        self.seed = seed
        self.epoch = epoch
        self._slices = SlicePermutation(
            plan.shard_clips, plan.slice_clips, Draws(seed, epoch, "epoch", "slices")
        )

    def place(self, group: int) -> GroupPlace:
        """Return where group ``group`` (0 <= group < groups_per_epoch) comes from."""
        plan = self.plan
        lane, index = group % plan.lanes, group // plan.lanes
        groups = plan.lane_groups(lane)
        windows = plan.lane_windows(groups)
        # The last window that starts at or before `index`, for starts at floor(w * groups / windows).
        window = ((index + 1) * windows - 1) // groups
        return GroupPlace(lane, window, (index - window * groups // windows) * plan.group_size)

    def window(self, lane: int, window: int) -> IntArray:
        """Return the clips of a window in the order in which they are used, as rows of (shard, clip)."""
        first, last = self.window_span(lane, window)
        clips = self.locate(np.arange(first, last, dtype=np.int64))
        draws = Draws(self.seed, self.epoch, f"lane {lane}", f"window {window}")
        # A window has whole groups, and a group whole blocks.
        blocks = clips.reshape(-1, self.plan.block_clips, 2)
        shuffled: IntArray = blocks[draws.permutation(len(blocks))].reshape(-1, 2)
        return shuffled

    def window_span(self, lane: int, window: int) -> tuple[int, int]:
        """Return the half-open range of the virtual sequence that a window covers."""
        plan = self.plan
        start, groups = plan.lane_start(lane), plan.lane_groups(lane)
        windows = plan.lane_windows(groups)
        first = start + window * groups // windows
        last = start + (window + 1) * groups // windows
        return first * plan.group_size, last * plan.group_size

    def lane_span(self, lane: int) -> tuple[int, int]:
        """Return the half-open range of the virtual sequence that a lane covers."""
        start = self.plan.lane_start(lane)
        return start * self.plan.group_size, (start + self.plan.lane_groups(lane)) * self.plan.group_size

    def locate(self, positions: IntArray) -> IntArray:
        """Return the clips at positions of the virtual sequence, as rows of (shard, clip)."""
        return self._slices.locate(positions)

    def parts(self, group: int) -> tuple[PartPlace, ...]:
        """Return where a group's clips come from: one part."""
        lane, window, offset = self.place(group)
        return (PartPlace(lane, window, offset, self.plan.group_size),)

    def rows(self, part: PartPlace) -> IntArray:
        """Return the clips of a part's window in the order in which they are used, as rows of (shard, clip)."""
        return self.window(part.lane, part.window)

    def scopes(self, part: PartPlace) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return the half-open ranges of the virtual sequence of a part's window, its lane, and the epoch."""
        return self.window_span(part.lane, part.window), self.lane_span(part.lane), (0, self.plan.clips)
