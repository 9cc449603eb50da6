"""The order of one epoch that draws from several shard sets: every source in an order of its own."""

from __future__ import annotations

import numpy as np

from pal_ds.data.order.epoch_order import PartPlace
from pal_ds.data.order.mix_lanes import LaneParts, Stretch
from pal_ds.data.order.mix_plan import MixPlan
from pal_ds.data.order.slices import IntArray, SlicePermutation
from pal_ds.data.rng import Draws


class MixOrder:
    """The order of one epoch of a mix.

    Groups take their clips from sources as the plan deals them; each source is a sequence of passes over its clips,
    each pass another permutation of its slices, and each lane takes exact stretches of it, in windows that are
    shuffled inside. With one source that is cut to whole steps this is the order of a single set, draw by draw.

    Args:
        plan: the geometry.
        seed: the run's seed.
        epoch: number of the epoch.
    """

    def __init__(self, plan: MixPlan, seed: int, epoch: int) -> None:
        self.plan = plan
        self.seed = seed
        self.epoch = epoch
        self._passes: dict[tuple[int, int], SlicePermutation] = {}

    def parts(self, group: int) -> tuple[PartPlace, ...]:
        """Return where the clips of a group (0 <= group < groups_per_epoch) come from: one part a source."""
        lane, index = group % self.plan.lanes, group // self.plan.lanes
        found = []
        for number, parts in enumerate(self.plan.lane_parts(lane)):
            part = int(parts.active[index])
            if parts.active[index + 1] == part:
                continue
            stretch = next(each for each in parts.stretches if part < each.last)
            inside, length = part - stretch.first, stretch.last - stretch.first
            window = ((inside + 1) * stretch.windows - 1) // length
            begin = stretch.first + window * length // stretch.windows
            found.append(
                PartPlace(
                    lane=lane,
                    window=stretch.window + window,
                    offset=int(parts.clips[part] - parts.clips[begin]),
                    size=int(parts.clips[part + 1] - parts.clips[part]),
                    source=number,
                    pass_number=stretch.pass_number,
                )
            )
        return tuple(found)

    def rows(self, part: PartPlace) -> IntArray:
        """Return the clips of a part's window in the order in which they are used, as rows of (shard, clip)."""
        clips = self.locate(part, np.arange(*self.scopes(part)[0], dtype=np.int64))
        name = _name(part)
        # Windows are numbered over the passes of a lane: only the first pass of the first source has no name.
        draws = Draws(self.seed, self.epoch, f"{name}lane {part.lane}", f"window {part.window}")
        blocks = clips.reshape(-1, self.plan.block_clips, 2)
        shuffled: IntArray = blocks[draws.permutation(len(blocks))].reshape(-1, 2)
        return shuffled

    def scopes(self, part: PartPlace) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return the half-open ranges of the pass that a part's window, its lane, and all of the pass cover."""
        parts = self.plan.lane_parts(part.lane)[part.source]
        stretch = _stretch_of(parts, part)
        source = self.plan.sources[part.source]
        start = stretch.position + self._turn(part.source) * source.epoch_clips
        length, window = stretch.last - stretch.first, part.window - stretch.window
        marks = [
            stretch.first + window * length // stretch.windows,
            stretch.first + (window + 1) * length // stretch.windows,
            stretch.last,
        ]
        begin, end, last = (start + int(parts.clips[mark] - parts.clips[stretch.first]) for mark in marks)
        return (begin, end), (start, last), (0, source.clips)

    def locate(self, part: PartPlace, positions: IntArray) -> IntArray:
        """Return the clips at positions of a part's pass over its source, as rows of (shard, clip)."""
        place = part.source, part.pass_number
        if place not in self._passes:
            source = self.plan.sources[part.source]
            shuffle = self.epoch // source.epochs_per_shuffle
            draws = Draws(self.seed, shuffle, f"{_name(part)}epoch", "slices")
            self._passes[place] = SlicePermutation(
                source.shard_clips, source.slice_clips, draws, first_shard=source.first_shard
            )
        return self._passes[place].locate(positions)

    def _turn(self, source: int) -> int:
        """Return which part of its shuffle a source is at: a large source is used up over several epochs."""
        return self.epoch % self.plan.sources[source].epochs_per_shuffle


def _name(part: PartPlace) -> str:
    if part.source == 0 and part.pass_number == 0:
        return ""
    return f"source {part.source} pass {part.pass_number} "


def _stretch_of(parts: LaneParts, part: PartPlace) -> Stretch:
    return next(each for each in parts.stretches if part.window < each.window + each.windows)
