"""Makes one video of the plan; every draw is keyed by (seed, video id, purpose)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpora.mocap.corpus_plan import Video
from corpora.mocap.encode import Developer, Film, encode
from corpora.mocap.motion.choreography import Act, trimmed, untrimmed
from corpora.mocap.motion.skeleton import JOINTS, Track, mirrored, moved, turned
from corpora.mocap.motion.timeline import (
    Instance,
    Performance,
    Style,
    at_frame_rate,
    slow_noise,
    with_joint_noise,
)
from corpora.mocap.rendering import raster, scene
from corpora.mocap.rendering.backdrop import Backdrop
from corpora.mocap.rendering.body import Capsules, Look, dressed
from corpora.mocap.rendering.camera import CameraStyle, film
from corpora.mocap.rendering.view import View
from corpora.mocap.rng import generator

SECOND_ACTOR = 0.2
"""Share of videos in which somebody else stands or walks about."""

_WALL_GAP = 0.5


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What is known of a made video: exact length, and its actions in seconds."""

    frames: int
    instances: tuple[Instance, ...]


def compose(video: Video, seed: int) -> Act:
    """Decide what happens in a video, without drawing it."""
    style = Style.draw(generator(seed, video.id, "style"))
    rng = generator(seed, video.id, "choreography")
    if video.kind == "trimmed":
        return trimmed(video.labels[0], style, rng)
    return untrimmed(video.labels, video.seconds, style, rng)


def make(video: Video, seed: int, root: Path) -> Labels:
    """Make a video under ``root`` unless it is there already.

    Returns:
        Its labels; instance times are cut to the whole number of frames.

    Raises:
        EncodeError: ffmpeg failed.
    """
    path = root / video.path
    act = compose(video, seed)
    if not path.exists():
        look = Film.draw(generator(seed, video.id, "film"))
        strips = draw(video, seed, act, int(act.seconds * video.fps), look)
        encode(
            strips,
            path,
            width=video.width,
            height=video.height,
            fps=video.fps,
            film=look,
            codec=video.codec,
        )
    return labels_of(video, act)


def labels_of(video: Video, act: Act) -> Labels:
    """Return what is known of a video in which ``act`` happens, without making it."""
    count = int(act.seconds * video.fps)
    end = count / video.fps
    inside = (
        Instance(label=one.label, start=one.start, end=min(one.end, end), repetitions=one.repetitions)
        for one in act.instances
    )
    return Labels(frames=count, instances=tuple(inside))


def draw(
    video: Video, seed: int, act: Act, count: int, look: Film, *, empty: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Render the first ``count`` frames of an act, strip by strip: uint8 [F, 3, H, W] each.

    Args:
        video: its size and rate; its id is the key of all draws.
        seed: of the corpus.
        act: what happens.
        count: frames.
        look: film and grain.
        empty: leave the actor out; the camera follows all the same, and all else stays as it is.
    """
    times = np.arange(count) / video.fps
    actor = actor_track(video, seed, act.track, count)
    style = CameraStyle.draw(generator(seed, video.id, "camera"))
    place = scene.Scene.draw(generator(seed, video.id, "scene"))
    shake = generator(seed, video.id, "shake")
    path = film(actor.root_t3, video.fps, style, place.half - _WALL_GAP, shake)
    parts = [
        *([] if empty else [dressed(actor, Look.draw(generator(seed, video.id, "look")))]),
        scene.props(generator(seed, video.id, "props"), count, style.azimuth),
        scene.distractors(generator(seed, video.id, "distractors"), times, style.azimuth),
        *_second_actor(video, seed, count, style.azimuth),
    ]
    solids = scene.merged(parts)
    develop = Developer(look, video.width, video.height, generator(seed, video.id, "grain"))
    backdrop = Backdrop(place)
    for first in range(0, count, raster.STRIP):
        frames = slice(first, min(first + raster.STRIP, count))
        view = View(path, frames, video.width, video.height)
        yield develop(raster.strip(view, backdrop, place, solids, frames))


def actor_track(video: Video, seed: int, track: Track, count: int) -> Track:
    """The performance at the video's rate, mirrored at times, with this actor's own way of moving."""
    rng = generator(seed, video.id, "noise")
    track = at_frame_rate(track, video.fps, count)
    if rng.random() < 0.5:
        track = mirrored(track)
    channels = 2 * len(JOINTS)
    wobble = slow_noise(rng, np.arange(count) / video.fps, channels) * float(rng.uniform(0.01, 0.05))
    habit = rng.normal(0.0, float(rng.uniform(0.01, 0.07)), channels)
    return with_joint_noise(moved(track, -track.root_t3[0] * np.array([1.0, 0.0, 1.0])), wobble + habit)


def _second_actor(video: Video, seed: int, count: int, azimuth: float) -> list[Capsules]:
    rng = generator(seed, video.id, "second actor")
    if rng.random() >= SECOND_ACTOR:
        return []
    style = Style.draw(rng)
    show = Performance(style, rng)
    walks, seconds = rng.random() < 0.5, count / video.fps
    while show.seconds < seconds:
        if walks:
            show.walk(float(rng.uniform(2.0, 6.0)))
        show.idle(float(rng.uniform(1.0, 4.0)))
    track = turned(at_frame_rate(show.track(), video.fps, count), float(rng.uniform(0, 2 * np.pi)))
    angle = azimuth + float(rng.uniform(0.9, 2 * np.pi - 0.9))
    away = float(rng.uniform(1.6, 4.0)) + (abs(style.turn_radius) if walks else 0.0)
    spot = np.array([np.cos(angle) * away, 0.0, np.sin(angle) * away])
    centre = track.root_t3.mean(axis=0) * np.array([1.0, 0.0, 1.0])
    return [dressed(moved(track, spot - centre), Look.draw(rng))]
