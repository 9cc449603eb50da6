"""The paper's Fig. 3: does the encoder find an action again at another speed and another place.

From one video with a marked action two others are made by resampling frame numbers: in one the action is
played faster and earlier, in the other slower and later, the background around it unchanged. Clip features of
the original are compared with those of each version. Because every frame of a version is known to come from
a frame of the original, the places where similarity should be high are known exactly and can be scored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pal_ds.viz.comparison import Comparison, Version, compare

#: uint8 clips [B, T, 3, H, W] in, float features [B, C] out (``pal_ds.transfer.extraction.frozen_encoder.ClipEncoder`` is one).
Encode = Callable[[Tensor], Tensor]
#: Ascending frame numbers in, uint8 [N, 3, H, W] out; repeats allowed.
ReadFrames = Callable[[Sequence[int]], Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarityFigure:
    """All that is drawn: the original, its versions, and for every encoder a comparison per version.

    Attributes:
        fps: frames per second of the video.
        clip_frames: frames per clip.
        stride: frames between clips.
        original: the video as it is.
        versions: the rearranged ones.
        comparisons: by encoder name, in the order of ``versions``.
        thumbnails: per version (the original first) frame numbers in the version and uint8 [N, H, W, 3].
        centred: whether each video's mean feature was subtracted before the cosine.
        altered: how the versions' frames were made to look different, for people; empty if they were not.
    """

    fps: float
    clip_frames: int
    stride: int
    original: Version
    versions: tuple[Version, ...]
    comparisons: dict[str, tuple[Comparison, ...]]
    thumbnails: tuple[tuple[NDArray[np.int64], NDArray[np.uint8]], ...]
    centred: bool
    altered: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alteration:
    """A change of looks that every frame of a version gets, so that equal pixels can't be the reason for a match.

    Attributes:
        text: what it does, for people.
        apply: uint8 [N, 3, H, W] in and out.
    """

    text: str
    apply: Callable[[Tensor], Tensor]


def _mirror_zoom_dim(frames_nchw: Tensor) -> Tensor:
    height, width = frames_nchw.shape[2:]
    top, left = height // 12, width // 12
    cropped = frames_nchw[:, :, top : height - top, left : width - left].flip(3)
    return (cropped.float() * 0.75 + 24).to(torch.uint8)


#: Left and right swapped, the outer twelfth cut off on every side, three quarters of the contrast.
MIRRORED = Alteration(text="mirrored, zoomed in and paler", apply=_mirror_zoom_dim)


def arrange(
    frames: int, action: tuple[int, int], *, speed: float, position: float, title: str = ""
) -> Version:
    """Move an action to another place and play it at another speed.

    Args:
        frames: frames of the video.
        action: first frame of the action, and the frame after its last.
        speed: above 1 is faster; frame numbers of the action are resampled at this step.
        position: where in the background the action goes: 0 at the start, 1 at the end.
        title: what to call it.

    Raises:
        ValueError: an empty action, one outside the video, or no background left.
    """
    start, end = action
    if not 0 <= start < end <= frames:
        raise ValueError(f"action {action}: use frames between 0 and {frames}")
    if end - start == frames:
        raise ValueError(f"action {action}: the whole video is action; mark a part of it")
    if speed <= 0 or not 0 <= position <= 1:
        raise ValueError(f"speed = {speed}, position = {position}: use a speed above 0, a position in [0, 1]")
    background = np.concatenate([np.arange(start), np.arange(end, frames)])
    length = max(1, round((end - start) / speed))
    resampled = start + np.minimum(np.floor((np.arange(length) + 0.5) * speed), end - start - 1)
    place = round(position * len(background))
    order = np.concatenate([background[:place], resampled, background[place:]]).astype(np.int64)
    return Version(title=title, frames=order, action=(place, place + length))


def default_versions(frames: int, action: tuple[int, int], *, factor: float = 2.0) -> tuple[Version, Version]:
    """Return the paper's two: faster by ``factor`` and moved earlier, slower by it and moved later.

    Each moves by at least a quarter of the background, or as far as there is room: an action at the very start
    of its video can't move earlier.
    """
    start, end = action
    background = max(1, frames - (end - start))
    here = start / background
    times = f"{factor:g} times"
    return (
        arrange(
            frames,
            action,
            speed=factor,
            position=max(0.0, here - max(0.25, here / 2)),
            title=f"played {times} faster, moved earlier",
        ),
        arrange(
            frames,
            action,
            speed=1 / factor,
            position=min(1.0, here + max(0.25, (1 - here) / 2)),
            title=f"played {times} slower, moved later",
        ),
    )


def similarity_figure(
    video: Tensor | ReadFrames,
    *,
    frames: int | None = None,
    fps: float,
    action: tuple[float, float],
    encode: Encode | Mapping[str, Encode],
    clip_frames: int = 8,
    stride: int | None = None,
    factor: float = 2.0,
    batch: int = 16,
    centred: bool = True,
    versions: Sequence[Version] | None = None,
    alteration: Alteration | None = None,
) -> SimilarityFigure:
    """Compare a video with rearranged versions of itself.

    Args:
        video: uint8 frames [N, 3, H, W], or a function that reads them by number (for long videos).
        frames: N; needed only with a function.
        fps: frames per second.
        action: start and end of the action in seconds.
        encode: one encoder, or several by name (drawn one below the other, the first on top).
        clip_frames: frames per clip.
        stride: frames between clips; None is half a clip.
        factor: how much faster and slower the action is played.
        batch: clips per call of ``encode``.
        centred: subtract each video's own mean feature before the cosine; features after a ReLU all point one
            way, and what all moments of a video share (its look) hides how they differ.
        versions: other arrangements than the paper's two.
        alteration: make the versions look different too (:data:`MIRRORED`); None compares equal pixels.

    Raises:
        ValueError: the action lies outside the video, or the video is shorter than two clips.
    """
    if isinstance(video, Tensor):
        held: Tensor = video
        count = len(held)
        read: ReadFrames = lambda numbers: held[list(numbers)]  # noqa: E731 (a name for both kinds of input)
    else:
        if frames is None:
            raise ValueError("frames: give the number of frames beside a reading function")
        count, read = frames, video
    stride = max(1, clip_frames // 2) if stride is None else stride
    span = (round(action[0] * fps), min(count, round(action[1] * fps)))
    if count < 2 * clip_frames:
        raise ValueError(f"{count} frames: at least two clips of {clip_frames} are needed")
    original = Version(title="as filmed", frames=np.arange(count), action=span)
    chosen = tuple(versions) if versions is not None else default_versions(count, span, factor=factor)
    everything = (original, *chosen)
    altered: ReadFrames = (lambda numbers: alteration.apply(read(numbers))) if alteration else read
    readers = (read, *([altered] * len(chosen)))
    encoders = dict(encode) if isinstance(encode, Mapping) else {"encoder": encode}
    comparisons = {}
    for name, encoder in encoders.items():
        features = [
            _features(reader, version, encoder, clip_frames, stride, batch)
            for reader, version in zip(readers, everything, strict=True)
        ]
        if centred:
            features = [found - found.mean(axis=0) for found in features]
        comparisons[name] = tuple(
            compare(features[0], found, version, clip_frames, stride, span)
            for found, version in zip(features[1:], chosen, strict=True)
        )
    return SimilarityFigure(
        fps=fps,
        clip_frames=clip_frames,
        stride=stride,
        original=original,
        versions=chosen,
        comparisons=comparisons,
        thumbnails=tuple(
            _thumbnails(reader, version) for reader, version in zip(readers, everything, strict=True)
        ),
        centred=centred,
        altered=alteration.text if alteration else "",
    )


def _features(
    read: ReadFrames, version: Version, encode: Encode, clip_frames: int, stride: int, batch: int
) -> NDArray[np.float32]:
    starts = range(0, len(version.frames) - clip_frames + 1, stride)
    found = []
    for first in range(0, len(starts), batch):
        wanted = np.stack([version.frames[s : s + clip_frames] for s in starts[first : first + batch]])
        numbers, inverse = np.unique(wanted, return_inverse=True)
        frames = read(numbers.tolist())
        clips = frames[torch.from_numpy(inverse.reshape(-1))].reshape(*wanted.shape, *frames.shape[1:])
        found.append(encode(clips).float().numpy())
    return np.concatenate(found)


def _thumbnails(
    read: ReadFrames, version: Version, count: int = 9, height: int = 72
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    places = np.unique(((np.arange(count) + 0.5) * len(version.frames) / count).astype(np.int64))
    numbers, inverse = np.unique(version.frames[places], return_inverse=True)
    frames: Any = read(numbers.tolist())
    size = (height, max(1, round(height * frames.shape[3] / frames.shape[2])))
    small = torch.nn.functional.interpolate(frames, size=size, mode="bilinear", antialias=True)
    return places, small.permute(0, 2, 3, 1).numpy()[inverse]
