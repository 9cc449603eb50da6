"""Draws the box around the actors: floor, walls and ceiling, textured by ray casting."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from corpora.mocap.rendering.scene import Scene
from corpora.mocap.rendering.textures import LEVELS, SIDE
from corpora.mocap.rendering.view import View

Picture: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = NDArray[np.int32]

_CEILING, _WALL = 1, 2
_CHUNK = 4
"""Frames drawn together: their intermediate maps stay in a core's second cache at 64 pixels."""


class Backdrop:
    """A scene's surfaces, made ready for lookups.

    Args:
        scene: the box and its light.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        surfaces = (scene.floor, scene.ceiling, scene.walls)
        starts = np.cumsum([0] + [len(surface.texels) for surface in surfaces])
        self._texels_cn = np.ascontiguousarray(np.concatenate([one.texels for one in surfaces]).T)
        levels = [start + one.starts for start, one in zip(starts, surfaces, strict=False)]
        self._starts_n = np.concatenate(levels).astype(np.int32)
        self._scale_k = np.array([1 / one.metres for one in surfaces], dtype=np.float32)
        floor = scene.ambient + (1 - scene.ambient) * scene.light[1]
        self._shade_k = np.array([floor, 1.0, 0.9], dtype=np.float32)

    def __call__(self, view: View) -> Picture:
        """Draw the frames of a view: light, float32 [3, F, H, W]."""
        picture = np.empty((3, len(view), view.height, view.width), dtype=np.float32)
        for first in range(0, len(view), _CHUNK):
            part = slice(first, first + _CHUNK)
            self._draw(view, part, picture[:, part])
        return picture

    def _draw(self, view: View, part: slice, into: Picture) -> None:
        half = np.float32(self._scene.half)
        rays = _rays(view, part)
        position = [_column(view.position_f3[part, axis]) for axis in range(3)]
        with np.errstate(divide="ignore"):
            to_x = (np.copysign(half, rays[0]) - position[0]) / rays[0]
            to_z = (np.copysign(half, rays[2]) - position[2]) / rays[2]
            above = np.where(rays[1] > 0, np.float32(self._scene.height), np.float32(0))
            to_y = (above - position[1]) / rays[1]
        across = to_x < to_z
        to_wall = np.where(across, to_x, to_z)
        on_wall = to_wall < to_y
        reach = np.where(on_wall, to_wall, to_y)
        x, y, z = (place + reach * ray for place, ray in zip(position, rays, strict=True))
        kind = np.where(on_wall, _WALL, (rays[1] > 0) * _CEILING).astype(np.int32)
        sideways = on_wall & across
        # Walls that meet in a corner show different stretches of their texture.
        u = np.where(sideways, z, x + np.float32(7.3) * on_wall)
        v = np.where(on_wall, y, z)
        slant = np.abs(np.where(sideways, rays[0], np.where(on_wall, rays[2], rays[1])))
        scale = self._scale_k.take(kind)
        texel = _column(SIDE / view.pixels_f[part])
        footprint = np.asarray(
            reach / np.maximum(np.sqrt(slant), np.float32(0.1)) * texel * scale, np.float32
        )
        fade = np.float32(1.0) - np.float32(0.25) * np.minimum(reach / (half * 2), np.float32(1.0))
        fade *= self._shade_k.take(kind)
        self._look_up(u * scale, v * scale, footprint, kind, fade, into)

    def _look_up(
        self, u: Picture, v: Picture, texels_per_pixel: Picture, kind: Numbers, gain: Picture, into: Picture
    ) -> None:
        """Read the textures, bilinearly, at the mip level that matches each pixel's footprint."""
        exponent = np.maximum(texels_per_pixel, np.float32(1.0)).view(np.int32)
        level = np.minimum((exponent >> 23) - 127, LEVELS - 1)
        side = np.right_shift(np.int32(SIDE), level)
        x, y = u * side - np.float32(0.5), v * side - np.float32(0.5)
        column, row = np.floor(x), np.floor(y)
        fx, fy = x - column, y - row
        last = side - 1
        left, top = column.astype(np.int32) & last, row.astype(np.int32) & last
        right = (left + 1) & last
        start = self._starts_n.take(kind * LEVELS + level)
        bottom = start + ((top + 1) & last) * side
        top = start + top * side
        corners = (top + left, top + right, bottom + left, bottom + right)
        for channel, tint in enumerate(self._scene.tint.astype(np.float32)):
            texels = self._texels_cn[channel]
            upper, other, lower, corner = (texels.take(where) for where in corners)
            upper += (other - upper) * fx
            lower += (corner - lower) * fx
            upper += (lower - upper) * fy
            np.multiply(upper, gain * tint, out=into[channel])


def _column(values_f: NDArray[np.float64]) -> Picture:
    return values_f.astype(np.float32)[:, None, None]


def _rays(view: View, part: slice) -> list[Picture]:
    """Directions of all pixels in the world, x, y and z: float32 [F, H, W] each."""
    axes = view.axes_f33[part].astype(np.float32)[..., None, None]
    focal = _column(view.pixels_f[part])
    x = (np.arange(view.width, dtype=np.float32) + np.float32(0.5 - view.width / 2)) / focal
    y = (np.float32(view.height / 2 - 0.5) - np.arange(view.height, dtype=np.float32))[:, None] / focal
    rays = [x * axes[:, 0, i] + (y * axes[:, 1, i] + axes[:, 2, i]) for i in range(3)]
    rays[1][rays[1] == 0] = 1e-9  # a ray along the horizon meets a wall, not the floor behind the camera
    return rays
