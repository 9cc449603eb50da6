"""Bodies and clothes: turns poses into coloured capsules."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from corpora.mocap.motion.skeleton import (
    FOREARM,
    INDEX,
    Floats,
    Proportions,
    Track,
    forward_kinematics,
    rotate,
)

SKINS = ((241, 205, 177), (224, 172, 135), (198, 134, 92), (141, 85, 54), (92, 57, 38))
HAIRS = ((20, 18, 16), (60, 38, 22), (122, 78, 40), (196, 160, 92), (150, 150, 150), (120, 40, 24))


@dataclass(frozen=True, kw_only=True)
class Material:
    """Two colours and how they alternate: 0 plain, 1 rings, 2 lengthwise stripes, 3 checks."""

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    pattern: int = 0
    repeats: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Capsules:
    """Sphere-swept segments over time, world metres.

    Attributes:
        starts, ends: centres of the two end spheres, float64 [T, N, 3].
        radii: of the two end spheres, float64 [N, 2].
        materials: one each, length N.
        shadowed: indices of those that throw a shadow on the floor.
    """

    starts: Floats
    ends: Floats
    radii: Floats
    materials: tuple[Material, ...]
    shadowed: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Proportions and clothes of one person."""

    shape: Proportions
    skin: Material
    hair: Material
    shirt: Material
    trousers: Material
    shoes: Material
    long_sleeves: bool
    long_legs: bool

    @staticmethod
    def draw(rng: np.random.Generator) -> Look:
        """Draw a person."""
        return Look(
            shape=Proportions(
                legs=float(rng.uniform(0.9, 1.1)),
                arms=float(rng.uniform(0.9, 1.1)),
                torso=float(rng.uniform(0.92, 1.08)),
                shoulders=float(rng.uniform(0.88, 1.12)),
                girth=float(rng.uniform(0.85, 1.3)),
            ),
            skin=plain(SKINS[rng.integers(len(SKINS))]),
            hair=plain(HAIRS[rng.integers(len(HAIRS))]),
            shirt=cloth(rng),
            trousers=cloth(rng),
            shoes=plain(random_colour(rng)),
            long_sleeves=bool(rng.random() < 0.5),
            long_legs=bool(rng.random() < 0.7),
        )


def random_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw an RGB colour (0 to 255), from near black to bright."""
    rgb = colorsys.hsv_to_rgb(float(rng.random()), float(rng.beta(1.0, 1.6)), float(rng.beta(2.0, 1.2)))
    return (rgb[0] * 255, rgb[1] * 255, rgb[2] * 255)


def plain(colour: tuple[float, float, float]) -> Material:
    """One colour everywhere."""
    return Material(first=colour, second=colour)


def cloth(rng: np.random.Generator) -> Material:
    """Draw a garment's colours and pattern."""
    pattern = int(rng.choice([0, 0, 1, 2, 3]))
    return Material(
        first=random_colour(rng),
        second=random_colour(rng),
        pattern=pattern,
        repeats=float(rng.uniform(1.5, 4.0)),
    )


# (joint, offset, joint, offset, radius, radius, material); offsets in the joints' own axes, metres.
_Part = tuple[str, tuple[float, float, float], str, tuple[float, float, float], float, float, str]


def _parts(look: Look) -> list[_Part]:
    arms, g = look.shape.arms, look.shape.girth
    sleeve = "shirt" if look.long_sleeves else "skin"
    leg = "trousers" if look.long_legs else "skin"
    wide = look.shape.shoulders
    parts: list[_Part] = [
        ("root", (0, 0.0, 0.05 * g), "root", (0, 0.0, -0.05 * g), 0.11 * g, 0.11 * g, "trousers"),
        ("root", (0, 0.08, 0), "chest", (0, 0.02, 0), 0.115 * g, 0.115 * g, "shirt"),
        ("chest", (0, 0.02, 0.05 * wide), "chest", (0.01, 0.17, 0.09 * wide), 0.095 * g, 0.1 * g, "shirt"),
        ("chest", (0, 0.02, -0.05 * wide), "chest", (0.01, 0.17, -0.09 * wide), 0.095 * g, 0.1 * g, "shirt"),
        ("neck", (0, -0.02, 0), "neck", (0.01, 0.08, 0), 0.05, 0.05, "skin"),
        ("neck", (0.02, 0.12, 0), "neck", (0.02, 0.17, 0), 0.085, 0.095, "skin"),
        ("neck", (-0.025, 0.13, 0), "neck", (-0.01, 0.2, 0), 0.09, 0.095, "hair"),
        ("neck", (0.1, 0.135, 0), "neck", (0.115, 0.125, 0), 0.022, 0.022, "skin"),
    ]
    for side in ("right", "left"):
        shoulder, elbow = f"{side}_shoulder", f"{side}_elbow"
        hip, knee, ankle = f"{side}_hip", f"{side}_knee", f"{side}_ankle"
        hand = -FOREARM * arms
        parts += [
            (shoulder, (0, 0, 0), elbow, (0, 0, 0), 0.06 * g, 0.046, "shirt"),
            (elbow, (0, 0, 0), elbow, (0, hand, 0), 0.044, 0.034, sleeve),
            (elbow, (0, hand, 0), elbow, (0, hand - 0.07, 0), 0.042, 0.038, "skin"),
            (hip, (0, 0, 0), knee, (0, 0, 0), 0.09 * g, 0.06, "trousers"),
            (knee, (0, 0, 0), ankle, (0, 0, 0), 0.058, 0.042, leg),
            (ankle, (-0.035, -0.018, 0), ankle, (0.125, -0.022, 0), 0.036, 0.032, "shoes"),
        ]
    return parts


def dressed(track: Track, look: Look) -> Capsules:
    """Place a person's body for every pose; no part is below the floor (y = 0)."""
    positions, world = forward_kinematics(track, look.shape)
    parts = _parts(look)
    starts = np.stack([_at(positions, world, part[0], part[1]) for part in parts], axis=1)
    ends = np.stack([_at(positions, world, part[2], part[3]) for part in parts], axis=1)
    radii = np.array([part[4:6] for part in parts])
    lowest = np.minimum((starts[..., 1] - radii[:, 0]).min(axis=1), (ends[..., 1] - radii[:, 1]).min(axis=1))
    lift = np.maximum(0.0, -lowest)[:, None]
    starts[..., 1] += lift
    ends[..., 1] += lift
    return Capsules(
        starts=starts,
        ends=ends,
        radii=radii,
        materials=tuple(getattr(look, part[6]) for part in parts),
        shadowed=tuple(number for number, part in enumerate(parts) if part[4] > 0.023),
    )


def _at(positions: Floats, world: Floats, joint: str, offset: tuple[float, float, float]) -> Floats:
    number = INDEX[joint]
    local = np.broadcast_to(np.asarray(offset, dtype=np.float64), positions[:, number].shape)
    return np.asarray(positions[:, number] + rotate(world[:, number], local))
