"""Procedural textures for floors, walls and skies, with mip levels for sampling far away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpora.mocap.rendering.body import random_colour

Image = NDArray[np.float32]
SIDE = 256
LEVELS = 6


@dataclass(frozen=True, kw_only=True)
class Texture:
    """A square, tileable picture.

    Attributes:
        texels: all mip levels one after the other, float32 [sum of 4^-l * 256^2, 3], 0 to 255.
        starts: first row of each level.
        metres: size of one tile in the world.
    """

    texels: Image
    starts: NDArray[np.int32]
    metres: float


def texture(picture: Image, metres: float) -> Texture:
    """Make the mip levels of a picture [256, 256, 3]."""
    levels, starts, start = [], [], 0
    for _ in range(LEVELS):
        levels.append(picture.reshape(-1, 3))
        starts.append(start)
        start += len(levels[-1])
        half = len(picture) // 2
        picture = picture.reshape(half, 2, half, 2, 3).mean(axis=(1, 3), dtype=np.float32)
    return Texture(texels=np.concatenate(levels), starts=np.array(starts, dtype=np.int32), metres=metres)


def cloud(rng: np.random.Generator, roughness: float = 1.0) -> Image:
    """Tileable fractal noise [256, 256] from 0 to 1: random phases under a power-law spectrum."""
    frequency = np.fft.fftfreq(SIDE) * SIDE
    radius = np.hypot(frequency[:, None], frequency[None, : SIDE // 2 + 1])
    radius[0, 0] = 1.0
    spectrum = np.exp(2j * np.pi * rng.random(radius.shape)) * radius ** (-1.0 - roughness)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    low, high = np.quantile(field[::3, ::3], [0.02, 0.98])
    return np.asarray(np.clip((field - low) / (high - low), 0, 1), dtype=np.float32)


def mix(first: tuple[float, float, float], second: tuple[float, float, float], weight: Image) -> Image:
    """Blend two colours by a field of weights [H, W]."""
    a, b = np.asarray(first, dtype=np.float32), np.asarray(second, dtype=np.float32)
    return np.asarray(a + (b - a) * weight[..., None], dtype=np.float32)


def _grid() -> tuple[Image, Image]:
    row, column = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    return row, column


def _tiles(rng: np.random.Generator) -> Image:
    count = int(rng.integers(2, 9))
    row, column = _grid()
    edge = np.maximum(np.abs((row * count) % 1 - 0.5), np.abs((column * count) % 1 - 0.5)) > 0.46
    checks = ((row * count).astype(int) + (column * count).astype(int)) % 2
    weight = (checks * float(rng.choice([0.0, 0.5, 1.0]))).astype(np.float32)
    base = mix(random_colour(rng), random_colour(rng), weight)
    return np.where(edge[..., None], base * np.float32(rng.uniform(0.4, 0.9)), base)


def _planks(rng: np.random.Generator) -> Image:
    count = int(rng.integers(4, 17))
    row, column = _grid()
    board = (row * count).astype(int)
    tone = rng.uniform(0.0, 1.0, count).astype(np.float32)[board]
    shift = rng.random(count).astype(np.float32)[board]
    grain = cloud(rng)[(row * SIDE * 4).astype(int) % SIDE, (column * SIDE / 4).astype(int)]
    base = mix(random_colour(rng), random_colour(rng), 0.35 * tone + 0.4 * grain)
    seam = ((row * count) % 1 < 0.07) | (((column * 2 + shift) % 1) < 0.012)
    return np.where(seam[..., None], base * np.float32(0.55), base)


def _bricks(rng: np.random.Generator) -> Image:
    rows = 2 * int(rng.integers(2, 9))
    row, column = _grid()
    course = (row * rows).astype(int)
    along = column * rows / 2 + (course % 2) * 0.5
    tone = rng.random((rows, rows + 2)).astype(np.float32)[course, along.astype(int) % (rows // 2)]
    seam = ((row * rows) % 1 < 0.12) | (along % 1 < 0.06)
    brick = mix(random_colour(rng), random_colour(rng), 0.5 * tone + 0.3 * cloud(rng))
    return np.where(seam[..., None], np.asarray(random_colour(rng), dtype=np.float32), brick)


def _stripes(rng: np.random.Generator) -> Image:
    count = int(rng.integers(1, 9))
    row, column = _grid()
    along = row if rng.random() < 0.5 else column
    weight = ((along * count) % 1 > rng.uniform(0.2, 0.8)).astype(np.float32)
    return mix(random_colour(rng), random_colour(rng), weight)


def _mottled(rng: np.random.Generator) -> Image:
    return mix(random_colour(rng), random_colour(rng), cloud(rng, float(rng.uniform(0.0, 1.2))))


def _patches(rng: np.random.Generator) -> Image:
    """Rectangles on a plain ground: pictures, windows, doors, rugs."""
    row, column = _grid()
    picture = mix(random_colour(rng), random_colour(rng), 0.25 * cloud(rng))
    for _ in range(int(rng.integers(3, 12))):
        top, left = rng.random(2)
        inside = ((row - top) % 1 < rng.uniform(0.05, 0.35)) & ((column - left) % 1 < rng.uniform(0.05, 0.35))
        picture = np.where(
            inside[..., None], mix(random_colour(rng), random_colour(rng), cloud(rng)), picture
        )
    return picture


_MAKERS: tuple[Callable[[np.random.Generator], Image], ...] = (
    _tiles,
    _planks,
    _bricks,
    _stripes,
    _mottled,
    _patches,
)


def surface(rng: np.random.Generator, metres: tuple[float, float]) -> Texture:
    """Draw a floor or a wall: one of six kinds, contrast lowered at random, a little dirt over it."""
    picture = _MAKERS[rng.integers(len(_MAKERS))](rng)
    mean = picture.mean(axis=(0, 1))
    picture = mean + (picture - mean) * np.float32(rng.uniform(0.3, 1.0))
    dirt = 1.0 + (cloud(rng) - 0.5)[..., None] * np.float32(rng.uniform(0.0, 0.5))
    return texture(np.clip(picture * dirt, 0, 255).astype(np.float32), float(rng.uniform(*metres)))


def horizon(rng: np.random.Generator, metres: float) -> Texture:
    """Draw an outdoor view: sky, clouds, and a skyline of hills, trees or houses (row 0 is the ground)."""
    row = _grid()[0]
    sky = mix(random_colour(rng), random_colour(rng), row)
    sky = sky + (255 - sky) * (cloud(rng)[..., None] * np.float32(rng.uniform(0.1, 0.8)))
    for layer in range(int(rng.integers(1, 4))):
        height = 0.32 - 0.08 * layer
        if rng.random() < 0.5:
            line = height * (0.4 + cloud(rng, 1.5)[0])
        else:
            line = height * np.repeat(rng.uniform(0.3, 1.3, 32), SIDE // 32)
        ground = mix(random_colour(rng), random_colour(rng), cloud(rng, 0.2))
        sky = np.where((row < line.astype(np.float32)[None, :])[..., None], ground, sky)
    return texture(sky.astype(np.float32), metres)
