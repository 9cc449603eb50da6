"""Places: room or open air, lights, things that stand and things that move. Nothing here knows the action."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpora.mocap.motion.skeleton import Floats
from corpora.mocap.rendering import textures
from corpora.mocap.rendering.body import Capsules, cloth


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A box of textured planes and its light.

    Attributes:
        floor, walls, ceiling: textures; outdoors the walls are a horizon and the ceiling is sky.
        half: half the side of the box, metres. height: of the box, metres.
        light: unit vector towards the light. ambient: share of light without direction, 0 to 1.
        tint: RGB gain of the light. shadow: darkness of shadows, 0 to 1.
    """

    floor: textures.Texture
    walls: textures.Texture
    ceiling: textures.Texture
    half: float
    height: float
    light: Floats
    ambient: float
    tint: Floats
    shadow: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Scene:
        """Draw a place: indoors in two of three cases."""
        indoors = rng.random() < 0.67
        floor = textures.surface(rng, (0.8, 5.0))
        if indoors:
            half, height = float(rng.uniform(10.0, 14.0)), float(rng.uniform(3.5, 7.0))
            walls, ceiling = textures.surface(rng, (1.5, 8.0)), textures.surface(rng, (1.5, 4.0))
        else:
            half, height = 40.0, 40.0
            walls = ceiling = textures.horizon(rng, 40.0)
        azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.45)
        light = np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(elevation), np.sin(azimuth) * np.cos(elevation)]
        )
        return Scene(
            floor=floor,
            walls=walls,
            ceiling=ceiling,
            half=half,
            height=height,
            light=light,
            ambient=float(rng.uniform(0.45, 0.75)),
            tint=rng.uniform(0.85, 1.1, 3) * float(rng.uniform(1.0, 1.45)),
            shadow=float(rng.uniform(0.15, 0.6)),
        )


def _empty(frames: int) -> Capsules:
    return Capsules(
        starts=np.zeros((frames, 0, 3)),
        ends=np.zeros((frames, 0, 3)),
        radii=np.zeros((0, 2)),
        materials=(),
        shadowed=(),
    )


def merged(parts: list[Capsules]) -> Capsules:
    """Put several sets of capsules into one."""
    first = np.cumsum([0] + [len(part.materials) for part in parts])
    return Capsules(
        starts=np.concatenate([part.starts for part in parts], axis=1),
        ends=np.concatenate([part.ends for part in parts], axis=1),
        radii=np.concatenate([part.radii for part in parts]),
        materials=tuple(material for part in parts for material in part.materials),
        shadowed=tuple(
            int(start) + number for start, part in zip(first, parts, strict=False) for number in part.shadowed
        ),
    )


def _away_from_camera(rng: np.random.Generator, azimuth: float) -> float:
    """An angle around the actor that doesn't stand between actor and camera."""
    return float(azimuth + rng.uniform(0.9, 2 * np.pi - 0.9))


def props(rng: np.random.Generator, frames: int, azimuth: float) -> Capsules:
    """Draw things that stand about: posts and boulders, none between actor and camera at ``azimuth``."""
    parts = [_empty(frames)]
    for _ in range(int(rng.integers(0, 5))):
        angle, away = _away_from_camera(rng, azimuth), float(rng.uniform(2.5, 8.0))
        radius = float(rng.uniform(0.1, 0.5))
        top = float(rng.uniform(radius, 2.5))
        foot = np.array([np.cos(angle) * away, radius, np.sin(angle) * away])
        head = foot * np.array([1.0, 0.0, 1.0]) + np.array([0.0, top, 0.0])
        parts.append(
            Capsules(
                starts=np.broadcast_to(foot, (frames, 1, 3)),
                ends=np.broadcast_to(head, (frames, 1, 3)),
                radii=np.full((1, 2), radius),
                materials=(cloth(rng),),
                shadowed=(0,),
            )
        )
    return merged(parts)


def distractors(rng: np.random.Generator, times: Floats, azimuth: float) -> Capsules:
    """Draw things that move on their own: rolling and bouncing balls, pendulums, something flying past."""
    parts = [_empty(len(times))]
    for _ in range(int(rng.choice([0, 0, 1, 1, 2, 3]))):
        angle, away = _away_from_camera(rng, azimuth), float(rng.uniform(2.0, 6.0))
        centre = np.array([np.cos(angle) * away, 0.0, np.sin(angle) * away])
        radius = float(rng.uniform(0.08, 0.3))
        path = _moving(rng, times, radius) + centre
        tail = path + rng.uniform(-0.3, 0.3, 3) * np.array([1.0, 0.2, 1.0]) * float(rng.integers(2))
        parts.append(
            Capsules(
                starts=path[:, None],
                ends=np.maximum(tail, np.array([-np.inf, radius, -np.inf]))[:, None],
                radii=np.full((1, 2), radius),
                materials=(cloth(rng),),
                shadowed=(0,),
            )
        )
    return merged(parts)


def _moving(rng: np.random.Generator, times: Floats, radius: float) -> Floats:
    """A path [T, 3] about its centre: back and forth over the floor, bouncing, swinging or circling in the air."""
    kind = int(rng.integers(4))
    phase, period = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(1.2, 6.0))
    direction = float(rng.uniform(0, 2 * np.pi))
    turn = 2 * np.pi * times / period + phase
    along, height = np.sin(turn) * float(rng.uniform(0.3, 2.0)), np.full_like(times, radius)
    if kind == 1:
        along, height = along * 0.2, radius + float(rng.uniform(0.3, 1.6)) * np.abs(np.sin(turn * 2))
    elif kind == 2:
        height = 1.0 + radius + 0.5 * (1 - np.cos(2 * turn)) * 0.3
    across = np.zeros_like(times)
    if kind == 3:
        across, height = np.cos(turn) * float(rng.uniform(0.5, 2.0)), height + float(rng.uniform(0.8, 2.2))
    return np.stack(
        [
            along * np.cos(direction) - across * np.sin(direction),
            height,
            along * np.sin(direction) + across * np.cos(direction),
        ],
        axis=1,
    )
