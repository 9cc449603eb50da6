"""Cameras: where they stand, how they follow, drift and shake. Nothing here knows the action."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpora.mocap.motion.skeleton import Floats
from corpora.mocap.motion.timeline import slow_noise


@dataclass(frozen=True, kw_only=True)
class CameraPath:
    """One pose of the camera for each frame.

    Attributes:
        positions: world metres, float64 [T, 3].
        axes: rows are the camera's right, up and forward axes in the world, float64 [T, 3, 3].
        focal: focal length in units of the picture's height, float64 [T].
    """

    positions: Floats
    axes: Floats
    focal: Floats


@dataclass(frozen=True, kw_only=True)
class CameraStyle:
    """A draw of how a video is filmed (radians, metres, seconds)."""

    azimuth: float
    distance: float
    height: float
    focal: float
    aim_height: float
    aim_side: float
    dolly: float
    lag: float
    drift: float
    zoom: float
    shake: float
    roll: float

    @staticmethod
    def draw(rng: np.random.Generator) -> CameraStyle:
        """Draw a camera; a standing person fills 45 to 72 % of the picture's height."""
        focal = float(rng.uniform(0.9, 2.0))
        share = float(rng.uniform(0.45, 0.72))
        distance = max(3.2, 1.7 * focal / share)
        return CameraStyle(
            azimuth=float(rng.uniform(0, 2 * np.pi)),
            distance=distance,
            height=float(rng.uniform(0.5, 1.2) if rng.random() < 0.5 else rng.uniform(1.2, 2.6)),
            focal=focal,
            aim_height=float(rng.uniform(0.65, 0.95)),
            aim_side=float(rng.uniform(-0.1, 0.1)) * distance / focal,
            dolly=float(rng.uniform(0.6, 1.0)),
            lag=float(rng.uniform(0.15, 0.5)),
            drift=float(rng.uniform(0.0, 0.12)) if rng.random() < 0.5 else 0.0,
            zoom=float(rng.uniform(0.0, 0.08)) if rng.random() < 0.3 else 0.0,
            shake=float(rng.uniform(0.001, 0.012)) if rng.random() < 0.5 else 0.0,
            roll=float(rng.normal(0.0, 0.02)),
        )


def film(
    actor_t3: Floats, fps: float, style: CameraStyle, reach: float, rng: np.random.Generator
) -> CameraPath:
    """Follow an actor.

    The camera reacts to what the actor has done so far, never to what comes: the first frame is free of it.

    Args:
        actor_t3: positions of the actor's root, metres [T, 3].
        fps: frames per second.
        style: how to film.
        reach: metres from the middle of the scene that the camera may be at most, in x and in z.
        rng: draws of drift and shake.

    Returns:
        The camera for each of the T frames.
    """
    times = np.arange(len(actor_t3)) / fps
    followed = _lagging(actor_t3, 1.0 - np.exp(-1.0 / (fps * style.lag)))
    noise = slow_noise(rng, times, 6)
    azimuth = style.azimuth + style.drift * (noise[:, 0] - noise[0, 0])
    offset = np.stack([np.cos(azimuth), np.zeros_like(azimuth), np.sin(azimuth)], axis=1) * style.distance
    ground = followed * np.array([1.0, 0.0, 1.0])
    start = ground[:1]
    positions = start + (ground - start) * style.dolly + offset
    positions[:, 1] = 0.0
    positions = np.clip(positions, -reach, reach)
    positions[:, 1] = style.height
    aim = ground.copy()
    aim[:, 1] = style.aim_height
    aim += np.stack([-np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=1) * style.aim_side
    jitter = slow_noise(rng, times, 3, slowest=2.0) * style.shake
    roll = style.roll + jitter[:, 2]
    forward = _unit(aim - positions)
    right = _unit(np.cross(forward, np.array([0.0, 1.0, 0.0])))
    up = np.cross(right, forward)
    forward = _unit(forward + right * jitter[:, :1] + up * jitter[:, 1:2])
    right = _unit(np.cross(forward, np.array([0.0, 1.0, 0.0])))
    up = np.cross(right, forward)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    axes = np.stack([right * cos + up * sin, up * cos - right * sin, forward], axis=1)
    return CameraPath(
        positions=positions, axes=axes, focal=style.focal * (1.0 + style.zoom * (noise[:, 1] - noise[0, 1]))
    )


def _lagging(path: Floats, gain: float) -> Floats:
    """One-pole low-pass filter, starting settled."""
    out = path.copy()
    for frame in range(1, len(path)):
        out[frame] = out[frame - 1] + (path[frame] - out[frame - 1]) * gain
    return out


def _unit(v: Floats) -> Floats:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))
