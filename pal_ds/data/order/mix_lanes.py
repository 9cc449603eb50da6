"""What the lanes of a mixed epoch take from one source: stretches of its passes, cut into windows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pal_ds.data.order.slices import IntArray


@dataclasses.dataclass(frozen=True)
class SourcePlan:
    """One source of a mix.

    Attributes:
        shard_clips: clips of each of its shards.
        first_shard: number of its first shard among those of all sources.
        clip_bytes: mean bytes of a clip.
        slice_clips: about how many clips a slice holds.
        window_clips: about how many clips a window holds.
        epoch_clips: clips that an epoch draws from it.
    """

    shard_clips: tuple[int, ...]
    first_shard: int
    clip_bytes: int
    slice_clips: int
    window_clips: int
    epoch_clips: int

    @functools.cached_property
    def clips(self) -> int:
        """Clips of the source."""
        return sum(self.shard_clips)

    @property
    def is_repeated(self) -> bool:
        """Whether an epoch draws more clips than there are: it goes through the source several times."""
        return self.epoch_clips > self.clips

    @property
    def epochs_per_shuffle(self) -> int:
        """Epochs that share one shuffle of the source, each another part of it: all clips come before one returns."""
        return 1 if self.is_repeated or not self.epoch_clips else self.clips // self.epoch_clips


class Stretch(NamedTuple):
    """Consecutive parts of a source in a lane that lie in one pass over it.

    Attributes:
        first: number of the first part in the lane, of those that hold clips of the source.
        last: number after the last part.
        pass_number: which pass of the epoch.
        position: of its first clip in the pass, counted from where the epoch begins.
        window: number of its first window in the lane.
        windows: windows it is cut into.
    """

    first: int
    last: int
    pass_number: int
    position: int
    window: int
    windows: int


@dataclasses.dataclass(frozen=True)
class LaneParts:
    """What one lane takes from one source in an epoch.

    Attributes:
        active: int32 [groups of the lane + 1], how many of the groups before have clips of the source.
        clips: int32 [parts + 1], clips of the source in the parts before.
        stretches: the parts by pass.
    """

    active: npt.NDArray[np.int32]
    clips: npt.NDArray[np.int32]
    stretches: tuple[Stretch, ...]


class PassRun(NamedTuple):
    """Parts of a lane that lie in one pass.

    Attributes:
        first: number of the first part.
        last: number after the last part.
        pass_number: the pass.
        position: of the first clip in the pass.
        end: position after the last clip.
    """

    first: int
    last: int
    pass_number: int
    position: int
    end: int


def runs_of(clips: IntArray, pass_clips: int, pass_number: int, position: int) -> Iterator[PassRun]:
    """Cut a lane's parts by pass: a part that does not fit into what is left of a pass begins the next one.

    Args:
        clips: [parts + 1], clips in the parts before; no part is larger than a pass.
        pass_clips: clips of a pass.
        pass_number: the pass at which the lane begins.
        position: the clip of that pass at which it begins.
    """
    first = 0
    while first < len(clips) - 1:
        room = int(clips[first]) + pass_clips - position
        last = int(np.searchsorted(clips, room, side="right")) - 1
        if last > first:
            end = position + int(clips[last] - clips[first])
            yield PassRun(first, last, pass_number, position, end)
            first, position = last, end
        else:
            pass_number, position = pass_number + 1, 0


def parts_of(source: SourcePlan, counts: IntArray, pass_number: int, position: int) -> LaneParts:
    """Return what a lane takes from a source.

    Args:
        source: the source.
        counts: int64 [groups of the lane], clips of the source in each group.
        pass_number: the pass at which the lane begins.
        position: the clip of that pass at which it begins, counted from where the epoch begins.
    """
    clips = clips_before(counts)
    stretches: list[Stretch] = []
    window = 0
    for run in runs_of(clips, source.clips, pass_number, position):
        size = -(-(run.end - run.position) // source.window_clips)
        windows = max(1, min(size, (run.last - run.first) // 2))
        stretches.append(Stretch(run.first, run.last, run.pass_number, run.position, window, windows))
        window += windows
    active = np.concatenate([[0], np.cumsum(counts > 0)]).astype(np.int32)
    return LaneParts(active, clips.astype(np.int32), tuple(stretches))


def clips_before(counts: IntArray) -> IntArray:
    """Return the clips before each part of a lane and in all of them, int64 [parts + 1]; empty parts are left out."""
    return np.concatenate([[0], np.cumsum(counts[counts > 0])])
