"""The geometry of an epoch that draws from several shard sets by weight (docs/streaming.md, "Several sets")."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from pal_ds.config.base import ConfigError
from pal_ds.config.data import check_blocks
from pal_ds.data.order.epoch_order import EpochPlan, groups_per_step
from pal_ds.data.order.mix_lanes import LaneParts, SourcePlan, clips_before, parts_of, runs_of
from pal_ds.data.order.quotas import Dealing, apportion
from pal_ds.data.order.slices import IntArray
from pal_ds.formats.shardset import SplitEntry

#: Groups whose dealing is computed at once while planning: bounds the memory that it takes.
_PLANNED_AT_ONCE = 1 << 16


@dataclasses.dataclass(frozen=True)
class MixPlan(EpochPlan):
    """The geometry of an epoch over several sources; shards of all sources are counted in one row.

    Attributes:
        sources: the sources in order.
        epoch_steps: optimizer steps of an epoch.
        unit: clips that are dealt to one source together.
    """

    sources: tuple[SourcePlan, ...] = ()
    epoch_steps: int = 0
    unit: int = 1

    @classmethod
    def from_splits(
        cls,
        splits: Sequence[SplitEntry],
        *,
        weights: Sequence[float] | None,
        by_group: bool,
        epoch_clips: int,
        global_batch: int,
        group_size: int,
        lanes_per_group: int,
        slice_bytes: int,
        window_slices: int,
        block_clips: int,
    ) -> MixPlan:
        """Plan epochs over splits of several sets from their manifests' figures alone.

        Args:
            splits: the split of each source.
            weights: shares; None for the sources' numbers of clips.
            by_group: every group is of one source.
            epoch_clips: clips of an epoch before it is cut to whole steps; 0 for those of all sources.
            global_batch: videos per optimizer step.
            group_size: videos per group.
            lanes_per_group: lanes of a group position.
            slice_bytes: bytes of a slice.
            window_slices: slices of a window.
            block_clips: neighbours that stay together.

        Raises:
            ConfigError: the batch does not divide, an epoch has no step, or a source is too small for its share.
        """
        check_blocks(block_clips, group_size)
        k = groups_per_step(global_batch, group_size)
        unit = group_size if by_group else block_clips
        counts = [sum(shard.clips for shard in split.shards) for split in splits]
        whole_units = [clips // unit for clips in counts]
        if min(whole_units) == 0:
            number = whole_units.index(0)
            raise ConfigError(
                f"data.shards[{number}]",
                f"{counts[number]} clips",
                f"too few: {unit} are drawn from it at a time",
            )
        steps = (epoch_clips or sum(whole_units) * unit) // global_batch
        if steps == 0:
            raise ConfigError(
                "data.global_batch",
                global_batch,
                f"all sets together have {sum(counts)} clips; use a smaller batch",
            )
        quotas = apportion(
            steps * global_batch // unit, whole_units if weights is None else [float(w) for w in weights]
        )
        sources, first_shard = [], 0
        for split, clips, quota in zip(splits, counts, quotas, strict=True):
            clip_bytes = max(1, round(sum(shard.bytes for shard in split.shards) / clips))
            slice_clips = max(1, round(slice_bytes / clip_bytes))
            sources.append(
                SourcePlan(
                    shard_clips=tuple(shard.clips for shard in split.shards),
                    first_shard=first_shard,
                    clip_bytes=clip_bytes,
                    slice_clips=slice_clips,
                    window_clips=max(2, round(window_slices * slice_clips / group_size)) * group_size,
                    epoch_clips=quota * unit,
                )
            )
            first_shard += len(split.shards)
        drawn = steps * global_batch
        plan = cls(
            shard_names=tuple(shard.name for split in splits for shard in split.shards),
            shard_clips=tuple(shard.clips for split in splits for shard in split.shards),
            clip_bytes=max(1, round(sum(each.epoch_clips * each.clip_bytes for each in sources) / drawn)),
            global_batch=global_batch,
            group_size=group_size,
            groups_per_step=k,
            lane_rounds=max(1, min(lanes_per_group, steps // 2)),
            slice_clips=max(each.slice_clips for each in sources),
            window_groups=max(each.window_clips for each in sources) // group_size,
            block_clips=block_clips,
            sources=tuple(sources),
            epoch_steps=steps,
            unit=unit,
        )
        plan._check_sizes()
        return plan

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch, S."""
        return self.epoch_steps

    @property
    def dropped_clips(self) -> int:
        """Clips of sources that are not repeated, left out of every epoch (other ones each time)."""
        return sum(max(0, source.clips - source.epoch_clips) for source in self.sources)

    @property
    def window_bytes(self) -> int:
        """About how many bytes the largest window of a lane holds."""
        return max(source.window_clips * source.clip_bytes for source in self.sources)

    @property
    def windows_per_lane(self) -> int:
        """Windows that a lane has open: one a source."""
        return len(self.sources)

    def drawn(self, steps: int) -> list[int]:
        """Return how many clips of each source the first ``steps`` optimizer steps of a run draw."""
        epochs, step = divmod(steps, self.epoch_steps)
        now = self._dealing.before(np.asarray(step * self.global_batch // self.unit))
        return [
            epochs * source.epoch_clips + int(units) * self.unit
            for source, units in zip(self.sources, now, strict=True)
        ]

    def lane_counts(self, lane: int) -> IntArray:
        """Return the clips that each group of a lane takes from each source, int64 [sources, groups]."""
        return self._counts(lane + self.lanes * np.arange(self.lane_groups(lane), dtype=np.int64))

    def lane_parts(self, lane: int) -> tuple[LaneParts, ...]:
        """Return what a lane takes from each source in an epoch: the same in every epoch."""
        if lane not in self._known_lanes:
            rows = enumerate(self.lane_counts(lane))
            self._known_lanes[lane] = tuple(self._parts(lane, number, row) for number, row in rows)
        return self._known_lanes[lane]

    @functools.cached_property
    def _known_lanes(self) -> dict[int, tuple[LaneParts, ...]]:
        return {}

    @functools.cached_property
    def _dealing(self) -> Dealing:
        return Dealing([source.epoch_clips // self.unit for source in self.sources])

    def _counts(self, groups: IntArray) -> IntArray:
        """Return the clips that groups of an epoch take from each source, int64 [sources, groups]."""
        units = self.group_size // self.unit
        found: IntArray = self._dealing.before((groups + 1) * units) - self._dealing.before(groups * units)
        return found * self.unit

    def _parts(self, lane: int, number: int, counts: IntArray) -> LaneParts:
        pass_number, position = (int(value) for value in self._lane_starts[number][lane])
        return parts_of(self.sources[number], counts, pass_number, position)

    @functools.cached_property
    def _lane_starts(self) -> list[IntArray]:
        """For each source, where its stretch of each lane begins: int64 [lanes, 2], rows of (pass, position)."""
        totals = self._lane_totals()
        starts = []
        for number, source in enumerate(self.sources):
            if source.is_repeated:
                starts.append(self._repeated_starts(number, source))
                continue
            position = np.cumsum(totals[number]) - totals[number]
            starts.append(np.stack([np.zeros_like(position), position], axis=1))
        return starts

    def _lane_totals(self) -> IntArray:
        """Return the clips that each lane takes from each source in an epoch, int64 [sources, lanes]."""
        totals = np.zeros((len(self.sources), self.lanes), dtype=np.int64)
        rounds = max(1, _PLANNED_AT_ONCE // self.lanes)
        for first in range(0, self.groups_per_epoch, rounds * self.lanes):
            groups = np.arange(first, min(first + rounds * self.lanes, self.groups_per_epoch), dtype=np.int64)
            counts = self._counts(groups)
            for row in range(0, len(groups), self.lanes):
                part = counts[:, row : row + self.lanes]
                totals[:, : part.shape[1]] += part
        return totals

    def _repeated_starts(self, number: int, source: SourcePlan) -> IntArray:
        """Go through all lanes once, part by part: a part that does not fit into a pass begins the next one."""
        starts = np.zeros((self.lanes, 2), dtype=np.int64)
        pass_number, position = 0, 0
        for lane in range(self.lanes):
            starts[lane] = pass_number, position
            clips = clips_before(self.lane_counts(lane)[number])
            for run in runs_of(clips, source.clips, pass_number, position):
                pass_number, position = run.pass_number, run.end
        return starts

    def _check_sizes(self) -> None:
        """Refuse a source that has fewer clips than one group takes from it."""
        most = self.group_size // self.unit
        for number, source in enumerate(self.sources):
            quota, all_units = source.epoch_clips // self.unit, self._dealing.units
            if quota == 0:
                raise ConfigError(
                    f"data.shards[{number}].weight",
                    f"{source.epoch_clips} of {all_units * self.unit} clips",
                    "too small: no clip of the set would be drawn; raise it, or take the set out of the list",
                )
            largest = min(most, -(-most * quota // all_units) + len(self.sources)) * self.unit
            if source.clips < largest:
                raise ConfigError(
                    f"data.shards[{number}]",
                    f"{source.clips} clips",
                    f"too few: a group may take {largest} different ones from it; lower its weight",
                )
