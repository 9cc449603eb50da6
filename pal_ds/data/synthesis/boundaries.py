"""Videos of two parts, for boundary-sensitive pre-training (BSP, Xu et al., ICCV 2021): ``synthesis.paste=boundary``.

Where another video takes over, the first part is the region of the video and the second part another video of the
group, lent as its background. Where the video goes on, at its own speed or at another, all of it is one region and
nothing of a background is seen. So both kinds go the way of every other synthetic video, rendered by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pal_ds.config.synthesis import BOUNDARIES, AugmentConfig, SynthesisConfig
from pal_ds.data.order.slices import IntArray
from pal_ds.data.rng import Draws
from pal_ds.data.synthesis.sampling import ClipDraws, Region, clamp_stride, draw_look

DIFFERENT_CLASS, SAME_CLASS, DIFFERENT_SPEED, SAME_SPEED = range(len(BOUNDARIES))


def draw_parts(
    seed: int,
    epoch: int,
    key: str,
    *,
    frames: int,
    height: int,
    width: int,
    synthesis: SynthesisConfig,
    augment: AugmentConfig,
) -> ClipDraws:
    """Draw what one clip gives: the wanted boundary, its own parts, and the run of frames that it lends.

    Each boundary is wanted equally often. A video too short for two speeds goes on at its own instead.
    """
    draws = Draws(seed, epoch, key, "boundary")
    wanted = draws.integer(0, len(BOUNDARIES) - 1)
    length = draws.integer(synthesis.region_min, synthesis.region_max)
    clips, each = synthesis.clips, synthesis.clip_frames
    largest = clamp_stride(synthesis.stride_max, clips * each, frames)
    strides = range(min(synthesis.stride_min, largest), largest + 1)
    first = strides[draws.integer(0, len(strides) - 1)]
    others = [stride for stride in strides if stride != first]
    second = first
    if wanted == DIFFERENT_SPEED and others:
        second = others[draws.integer(0, len(others) - 1)]
    elif wanted == DIFFERENT_SPEED:
        wanted = SAME_SPEED
    if wanted in (DIFFERENT_CLASS, SAME_CLASS):
        own = np.arange(length * each, dtype=np.int64) * first
    else:
        length, change = clips, length * each
        steps = np.full(clips * each, first, dtype=np.int64)
        steps[change:] = second
        own = np.cumsum(steps) - steps
    lent = np.arange(clips * each, dtype=np.int64) * first
    starts = Draws(seed, epoch, key, "boundary starts")
    own, lent = (
        (starts.integer(0, max(0, frames - 1 - int(offsets[-1]))) + offsets) % frames
        for offsets in (own, lent)
    )
    return ClipDraws(
        regions=(Region(start=0, length=length, stride=first, frames=own, beta=(1.0,) * clips),),
        background=lent,
        background_stride=first,
        region_looks=(draw_look(Draws(seed, epoch, key, "region look query"), height, width, augment),),
        background_looks=(
            draw_look(Draws(seed, epoch, key, "background look query"), height, width, augment),
        ),
        boundary=wanted,
    )


def draw_partners(
    seed: int, epoch: int, keys: Sequence[str], labels: Sequence[int], wanted: Sequence[int]
) -> tuple[IntArray, IntArray]:
    """Draw whose frames are the second part of every video, and say what boundary that makes.

    Where a group holds no partner of the wanted kind, one of the other kind is taken: a group without two clips of
    one class has no boundary within a class.

    Args:
        seed: the run's seed.
        epoch: number of the epoch.
        keys: keys of the group's clips, in order.
        labels: their class numbers.
        wanted: the boundary that each wants.

    Returns:
        Partners, int64 [G, 1] (the video itself where it goes on), and boundaries, int64 [G].
    """
    draws = Draws(seed, epoch, "\n".join(keys), "partners")
    pairs = np.arange(len(keys), dtype=np.int64)[:, None]
    found = np.array(wanted, dtype=np.int64)
    for video, label in enumerate(labels):
        if wanted[video] not in (DIFFERENT_CLASS, SAME_CLASS):
            continue
        kinds: dict[int, list[int]] = {DIFFERENT_CLASS: [], SAME_CLASS: []}
        for other, theirs in enumerate(labels):
            if other != video:
                kinds[SAME_CLASS if theirs == label else DIFFERENT_CLASS].append(other)
        if not kinds[wanted[video]]:
            found[video] = DIFFERENT_CLASS if wanted[video] == SAME_CLASS else SAME_CLASS
        partners = kinds[int(found[video])]
        pairs[video, 0] = partners[draws.integer(0, len(partners) - 1)]
    return pairs, found
