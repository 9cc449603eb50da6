"""What is drawn for a clip and for a group: regions, backgrounds, crops, colours, pairs.

A clip's draws depend on (seed, epoch, key of the clip) and on its length and size, never on its group; a group's
draws depend on the ordered keys of its clips. Everything is plain integers and floats, made once and shipped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.rng import Draws
from pal_ds.data.synthesis.timed_strides import IntArray, timed_background, timed_region

#: Names of the views in the draws; a sample has the first ``synthesis.views`` of them.
VIEWS = ("query", "key", "key 2", "key 3")


@dataclasses.dataclass(frozen=True)
class Region:
    """A pseudo action region of one view.

    Attributes:
        start: first clip of the region in the synthetic video, s.
        length: clips of the region, e - s.
        stride: frame stride really used: the drawn one, clamped to what the video can fill; rounded where strides are
            in seconds, since ``frames`` say it exactly.
        frames: indices of its length * clip_frames frames in the source video.
        beta: share of the action in the blend, one number per clip of the view.
    """

    start: int
    length: int
    stride: int
    frames: IntArray
    beta: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Look:
    """The spatial augmentation of one source (a video in one role in one view).

    Attributes:
        crop: (top, left, height, width) in pixels of the video.
        flip: mirrored horizontally.
        brightness: factor.
        contrast: factor, about the mean grey of the source.
        saturation: factor.
        hue: shift in turns.
        grey: greyscale.
        blur: standard deviation in pixels of the resized frame; 0 for none.
    """

    crop: tuple[int, int, int, int]
    flip: bool
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: bool
    blur: float


@dataclasses.dataclass(frozen=True)
class ClipDraws:
    """Everything drawn for one clip.

    Attributes:
        regions: the region of each view.
        background: indices of the frames it lends as a background, clips * clip_frames; empty without pasting.
        background_stride: the stride really used for them.
        region_looks: augmentation of the region in each view.
        background_looks: augmentation of the background in each view.
        boundary: with ``paste=boundary``, the wanted number of ``BOUNDARIES``; -1 otherwise.
    """

    regions: tuple[Region, ...]
    background: IntArray
    background_stride: int
    region_looks: tuple[Look, ...]
    background_looks: tuple[Look, ...]
    boundary: int = -1


def draw_clip(
    seed: int,
    epoch: int,
    key: str,
    *,
    frames: int,
    height: int,
    width: int,
    synthesis: SynthesisConfig,
    augment: AugmentConfig,
    fps: float = 0.0,
) -> ClipDraws:
    """Draw everything for one clip of ``frames`` frames of ``height`` x ``width`` pixels.

    ``fps`` is needed where strides are in seconds.
    """

    def draws(purpose: str) -> Draws:
        return Draws(seed, epoch, key, purpose)

    if synthesis.paste == "none":
        background, stride = np.zeros(0, dtype=np.int64), 0
    else:
        background, stride = draw_background(draws("background"), frames, synthesis, fps)
    views = VIEWS[: synthesis.views]
    return ClipDraws(
        regions=tuple(draw_region(draws(f"region {view}"), frames, synthesis, fps) for view in views),
        background=background,
        background_stride=stride,
        region_looks=tuple(draw_look(draws(f"region look {view}"), height, width, augment) for view in views),
        background_looks=tuple(
            draw_look(draws(f"background look {view}"), height, width, augment) for view in views
        ),
    )


def draw_region(draws: Draws, frames: int, synthesis: SynthesisConfig, fps: float = 0.0) -> Region:
    """Draw one region: L ~ U{min..max}, s ~ U{0..J-L}, stride ~ U{min..max} clamped, and where it is cut from.

    A video with fewer frames than the region needs at stride 1 is wrapped around. ``fps`` is needed where strides are
    in seconds.
    """
    length = draws.integer(synthesis.region_min, synthesis.region_max)
    start = draws.integer(0, synthesis.view_clips - length)
    if synthesis.stride_seconds:
        offsets, stride = timed_region(draws, length, frames, fps, synthesis)
        return _region(draws, (start, length), offsets, stride, frames, synthesis)
    wanted = draws.integer(synthesis.stride_min, synthesis.stride_max)
    if synthesis.stride_mode == "span":
        stride = clamp_stride(wanted, length * synthesis.clip_frames, frames)
        offsets = np.arange(length * synthesis.clip_frames, dtype=np.int64) * stride
    else:
        largest = clamp_stride(synthesis.stride_max, length * synthesis.clip_frames, frames)
        stride = min(wanted, largest)
        clip_starts = np.arange(length, dtype=np.int64) * synthesis.clip_frames * largest
        inside = np.arange(synthesis.clip_frames, dtype=np.int64) * stride
        offsets = (clip_starts[:, None] + inside[None, :]).reshape(-1)
    return _region(draws, (start, length), offsets, stride, frames, synthesis)


def _region(
    draws: Draws,
    place: tuple[int, int],
    offsets: IntArray,
    stride: int,
    frames: int,
    synthesis: SynthesisConfig,
) -> Region:
    """Draw where in a video the frames at ``offsets`` begin, and the blend."""
    start, length = place
    first = draws.integer(0, max(0, frames - 1 - int(offsets[-1])))
    spread = synthesis.beta_max - synthesis.beta_min
    betas = tuple(synthesis.beta_min + spread * number for number in draws.numbers(synthesis.view_clips))
    if synthesis.beta_scope == "view":
        betas = betas[:1] * len(betas)
    return Region(
        start=start,
        length=length,
        stride=stride,
        frames=(first + offsets) % frames,
        beta=betas,
    )


def clamp_stride(wanted: int, count: int, frames: int) -> int:
    """Return the largest stride up to ``wanted`` at which ``count`` frames fit into ``frames``; at least 1."""
    return max(1, min(wanted, (frames - 1) // max(1, count - 1)))


def draw_background(
    draws: Draws, frames: int, synthesis: SynthesisConfig, fps: float = 0.0
) -> tuple[IntArray, int]:
    """Draw the frames that a video lends as a background: J clips in order of time, and the stride used.

    The stride is the largest up to ``background_stride`` at which all clips fit side by side; clips of shorter
    videos overlap, and those of videos shorter than one clip wrap around.
    """
    clips, length = synthesis.clips, synthesis.clip_frames
    if synthesis.stride_seconds:
        inside, stride = timed_background(frames, fps, synthesis)
    else:
        stride = max(1, min(synthesis.background_stride, frames // (clips * length)))
        inside = np.arange(length) * stride
    room = max(0, frames - (int(inside[-1]) + 1))
    if synthesis.background_sampling == "uniform":
        starts = np.arange(clips, dtype=np.int64) * room // max(1, clips - 1)
    else:
        starts = np.sort((draws.uniform(clips) * (room + 1)).astype(np.int64))
    return ((starts[:, None] + inside) % frames).reshape(-1), stride


def draw_look(draws: Draws, height: int, width: int, augment: AugmentConfig) -> Look:
    """Draw the augmentation of one source. The layout of the draws is fixed: switching one off moves no other."""
    crop_draws, other = draws.rows(10, 4), draws.numbers(9)
    jitter = other[1] < augment.jitter_p

    def factor(value: float, spread: float) -> float:
        return 1.0 + spread * (2.0 * value - 1.0) if jitter else 1.0

    blur = augment.blur_sigma_min + (augment.blur_sigma_max - augment.blur_sigma_min) * other[8]
    return Look(
        crop=_crop(crop_draws, height, width, augment),
        flip=other[0] < augment.flip_p,
        brightness=factor(other[2], augment.brightness),
        contrast=factor(other[3], augment.contrast),
        saturation=factor(other[4], augment.saturation),
        hue=factor(other[5], augment.hue) - 1.0,
        grey=other[6] < augment.grey_p,
        blur=blur if other[7] < augment.blur_p else 0.0,
    )


def _crop(
    tries: Iterable[tuple[float, ...]], height: int, width: int, augment: AugmentConfig
) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a random resized crop: the first try that fits, or the largest centred."""
    low, high = augment.crop_ratio_min, augment.crop_ratio_max
    if augment.crop == "center":
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side, side
    for area_draw, ratio_draw, top_draw, left_draw in tries:
        share = augment.crop_scale_min + (augment.crop_scale_max - augment.crop_scale_min) * area_draw
        ratio = math.exp(math.log(low) + (math.log(high) - math.log(low)) * ratio_draw)
        crop_width = round(math.sqrt(share * height * width * ratio))
        crop_height = round(math.sqrt(share * height * width / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(top_draw * (height - crop_height + 1))
            return top, int(left_draw * (width - crop_width + 1)), crop_height, crop_width
    ratio = min(max(width / height, low), high)
    crop_width, crop_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def draw_pairs(seed: int, epoch: int, keys: list[str], paste: str, views: int = 2) -> IntArray:
    """Draw who is whose background: row g holds the background videos of the views of video g.

    The group is put in a random circle; each view's backgrounds are a rotation of it, all by different amounts. So
    all are derangements, disjoint from one another, and every choice of others is equally likely.

    Args:
        seed: the run's seed.
        epoch: number of the epoch.
        keys: keys of the group's clips in order; at least three, and more than ``views`` for "different".
        paste: "different", "same" (one background for all views), "own" (the video itself), or "none" (all -1).
        views: views of a video.

    Returns:
        int64 [len(keys), views].
    """
    size = len(keys)
    if paste == "none":
        return np.full((size, views), -1, dtype=np.int64)
    if paste == "own":
        return np.repeat(np.arange(size, dtype=np.int64)[:, None], views, axis=1)
    draws = Draws(seed, epoch, "\n".join(keys), "pairs")
    circle = draws.permutation(size)
    amounts = list(range(1, size))
    drawn = [amounts.pop(draws.integer(1, len(amounts)) - 1) for _ in range(views)]
    pairs = np.empty((size, views), dtype=np.int64)
    for view, amount in enumerate(drawn):
        pairs[circle, view] = np.roll(circle, drawn[0] if paste == "same" else amount)
    return pairs
