"""Draws capsules and the box around them into one picture: plain NumPy, a few milliseconds a frame.

A capsule is drawn as what it projects to, a segment swept by a disc whose radius changes linearly. Depth and
normal come from the disc's sphere, so limbs intersect, occlude and shade as solids do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corpora.mocap.motion.skeleton import Floats
from corpora.mocap.rendering.body import Capsules, Material
from corpora.mocap.rendering.camera import CameraPath
from corpora.mocap.rendering.scene import Scene
from corpora.mocap.rendering.textures import LEVELS, SIDE, Texture

Picture = NDArray[np.float32]
_NEAR = 0.3


class View:
    """The pinhole camera of one frame, for a picture of ``width`` x ``height`` pixels."""

    def __init__(self, path: CameraPath, number: int, width: int, height: int) -> None:
        self._of = path, number
        self.position = path.positions[number]
        self.axes = path.axes[number]
        self.pixels = float(path.focal[number]) * height
        self.width, self.height = width, height

    def finer(self) -> View:
        """The same view at twice the resolution."""
        return View(*self._of, 2 * self.width, 2 * self.height)

    def project(self, points: Floats) -> Floats:
        """World points [..., 3] to (column, row, depth) [..., 3]; depth is clamped to stay in front."""
        local = (points - self.position) @ self.axes.T
        depth = np.maximum(local[..., 2], _NEAR)
        column = self.width / 2 + self.pixels * local[..., 0] / depth
        row = self.height / 2 - self.pixels * local[..., 1] / depth
        return np.stack([column, row, local[..., 2]], axis=-1)


def _sampled(texture: Texture, u: Picture, v: Picture, texels_per_pixel: Picture) -> Picture:
    """Look a texture up, bilinearly, at the mip level that matches each pixel's footprint."""
    level = np.clip(np.log2(np.maximum(texels_per_pixel, 1.0)).astype(np.int32), 0, LEVELS - 1)
    side = np.right_shift(SIDE, level)
    x, y = u * side - 0.5, v * side - 0.5
    column, row = np.floor(x), np.floor(y)
    fx, fy = (x - column)[:, None], (y - row)[:, None]
    left, top = column.astype(np.int32) & (side - 1), row.astype(np.int32) & (side - 1)
    right, bottom = (left + 1) & (side - 1), (top + 1) & (side - 1)
    start = texture.starts[level]
    top, bottom = start + top * side, start + bottom * side
    texels = texture.texels
    upper, lower = texels.take(top + left, axis=0), texels.take(bottom + left, axis=0)
    upper += (texels.take(top + right, axis=0) - upper) * fx
    lower += (texels.take(bottom + right, axis=0) - lower) * fx
    upper += (lower - upper) * fy
    return np.asarray(upper)


def backdrop(view: View, scene: Scene) -> Picture:
    """Draw floor, walls and ceiling: float32 [H, W, 3]."""
    x = (np.arange(view.width, dtype=np.float32) + 0.5 - view.width / 2) / np.float32(view.pixels)
    y = (view.height / 2 - 0.5 - np.arange(view.height, dtype=np.float32)) / np.float32(view.pixels)
    axes = view.axes.astype(np.float32)
    rays = [(x[None, :] * axes[0, i] + (y[:, None] * axes[1, i] + axes[2, i])).ravel() for i in range(3)]
    rays[1][rays[1] == 0] = 1e-9  # a ray along the horizon meets a wall, not the floor behind the camera
    position = view.position.astype(np.float32)
    with np.errstate(divide="ignore"):
        to_x = (np.copysign(np.float32(scene.half), rays[0]) - position[0]) / rays[0]
        to_z = (np.copysign(np.float32(scene.half), rays[2]) - position[2]) / rays[2]
        to_y = (np.where(rays[1] > 0, np.float32(scene.height), np.float32(0)) - position[1]) / rays[1]
    to_wall = np.minimum(to_x, to_z)
    on_wall = to_wall < to_y
    distance = np.where(on_wall, to_wall, to_y)
    hit = [position[i] + distance * rays[i] for i in range(3)]
    picture = np.empty((rays[0].size, 3), dtype=np.float32)
    light = scene.light
    for texture, chosen, shade in (
        (scene.floor, ~on_wall & (rays[1] <= 0), scene.ambient + (1 - scene.ambient) * light[1]),
        (scene.ceiling, ~on_wall & (rays[1] > 0), 1.0),
        (scene.walls, on_wall, 0.9),
    ):
        where = np.flatnonzero(chosen)
        if not where.size:
            continue
        reach, scale = distance[where], np.float32(1 / texture.metres)
        if texture is scene.walls and on_wall[where[0]]:
            flat = to_x[where] < to_z[where]
            u, v = np.where(flat, hit[2][where], hit[0][where] + 7.3), hit[1][where]
            slant = np.where(flat, np.abs(rays[0][where]), np.abs(rays[2][where]))
        else:
            u, v, slant = hit[0][where], hit[2][where], np.abs(rays[1][where])
        footprint = reach / np.maximum(np.sqrt(slant), 0.1) * np.float32(SIDE / view.pixels) * scale
        fade = np.float32(shade) * (1.0 - 0.25 * np.minimum(reach / np.float32(scene.half * 2), 1.0))
        picture[where] = _sampled(texture, u * scale, v * scale, footprint) * fade[:, None]
    return (picture * scene.tint.astype(np.float32)).reshape(view.height, view.width, 3)


def _box(view: View, a: Floats, b: Floats, ra: float, rb: float) -> tuple[slice, slice] | None:
    left, right = min(a[0] - ra, b[0] - rb), max(a[0] + ra, b[0] + rb)
    top, bottom = min(a[1] - ra, b[1] - rb), max(a[1] + ra, b[1] + rb)
    x0, x1 = max(0, int(left)), min(view.width, int(right) + 2)
    y0, y1 = max(0, int(top)), min(view.height, int(bottom) + 2)
    return None if x0 >= x1 or y0 >= y1 else (slice(y0, y1), slice(x0, x1))


def _swept(
    box: tuple[slice, slice], a: Floats, b: Floats, ra: float, rb: float
) -> tuple[Picture, Picture, Picture, Picture, Picture]:
    """Per pixel of a box: place along the segment, offsets from it, squared distance, and radius there."""
    columns = np.arange(box[1].start, box[1].stop, dtype=np.float32) + np.float32(0.5)
    rows = (np.arange(box[0].start, box[0].stop, dtype=np.float32) + np.float32(0.5))[:, None]
    dx, dy = np.float32(b[0] - a[0]), np.float32(b[1] - a[1])
    px, py = columns - np.float32(a[0]), rows - np.float32(a[1])
    along = (px * dx + py * dy) * np.float32(1.0 / (float(dx) ** 2 + float(dy) ** 2 + 1e-6))
    np.clip(along, 0, 1, out=along)
    ox, oy = px - along * dx, py - along * dy
    return along, ox, oy, ox * ox + oy * oy, np.float32(ra) + along * np.float32(rb - ra)


def _coloured(material: Material, along: Picture, across: Picture) -> Picture:
    first = np.asarray(material.first, dtype=np.float32)
    second = np.asarray(material.second, dtype=np.float32)
    if not material.pattern:
        return first
    rings = (along * np.float32(material.repeats * 2)).astype(np.int32)
    stripes = ((across + 1) * np.float32(material.repeats)).astype(np.int32)
    odd = (rings, stripes, rings + stripes)[material.pattern - 1] & 1
    return np.where(odd[..., None] == 1, second, first)


def _cross(ox: Picture, oy: Picture, radius: Picture, a: Floats, b: Floats) -> Picture:
    length = max(float(np.hypot(b[0] - a[0], b[1] - a[1])), 1e-3)
    return np.asarray(
        (ox * np.float32((a[1] - b[1]) / length) + oy * np.float32((b[0] - a[0]) / length)) / radius
    )


def capsules(
    view: View, scene: Scene, starts: Floats, ends: Floats, radii: Floats, materials: tuple[Material, ...]
) -> tuple[Picture, NDArray[np.bool_]]:
    """Draw capsules [N] over nothing.

    Returns:
        colours float32 [H, W, 3] and where they are, bool [H, W].
    """
    colours = np.zeros((view.height, view.width, 3), dtype=np.float32)
    depth = np.full((view.height, view.width), np.inf, dtype=np.float32)
    a, b = view.project(starts), view.project(ends)
    light = (view.axes @ scene.light).astype(np.float32)
    tint = scene.tint.astype(np.float32)
    for number, material in enumerate(materials):
        za, zb = float(a[number, 2]), float(b[number, 2])
        if min(za, zb) < _NEAR:
            continue
        ra, rb = float(radii[number, 0]), float(radii[number, 1])
        pa, pb = ra * view.pixels / za, rb * view.pixels / zb
        box = _box(view, a[number], b[number], pa, pb)
        if box is None:
            continue
        along, ox, oy, square, radius = _swept(box, a[number], b[number], pa, pb)
        out = np.sqrt(np.maximum(1.0 - square / (radius * radius), 0.0))
        z = np.float32(za) + along * np.float32(zb - za) - out * np.float32(max(ra, rb))
        front = (square < radius * radius) & (z < depth[box])
        lit = (ox * light[0] - oy * light[1]) / radius - out * light[2]
        shade = np.float32(scene.ambient) + np.float32(1.0 - scene.ambient) * np.maximum(lit, 0)
        shade *= 0.75 + 0.25 * out
        colour = _coloured(material, along, _cross(ox, oy, radius, a[number], b[number])) * tint
        np.copyto(colours[box], shade[..., None] * colour, where=front[..., None])
        np.copyto(depth[box], z, where=front)
    return colours, np.isfinite(depth)


def shadows(view: View, scene: Scene, starts: Floats, ends: Floats, radii: Floats) -> Picture:
    """Darkness of the floor under capsules [N], with soft edges: gain float32 [H, W]."""
    slope = scene.light / scene.light[1]
    a3, b3 = starts - slope * starts[:, 1:2], ends - slope * ends[:, 1:2]
    a, b = view.project(a3), view.project(b3)
    cover = np.zeros((view.height, view.width), dtype=np.float32)
    for number in range(len(starts)):
        za, zb = float(a[number, 2]), float(b[number, 2])
        if min(za, zb) < _NEAR:
            continue
        # The floor is seen at a slant, so a shadow's disc is flattened; its mean radius is near enough.
        pa, pb = (
            float(r) * view.pixels / z * 0.8 + 0.5 for r, z in zip(radii[number], (za, zb), strict=True)
        )
        box = _box(view, a[number], b[number], pa, pb)
        if box is None:
            continue
        _, _, _, square, radius = _swept(box, a[number], b[number], pa, pb)
        np.maximum(cover[box], np.clip(1.5 * (1.0 - np.sqrt(square) / radius), 0, 1), out=cover[box])
    return np.asarray(1.0 - np.float32(scene.shadow) * cover, dtype=np.float32)


def frame(view: View, scene: Scene, solids: Capsules, number: int) -> Picture:
    """Draw one whole picture, figures at twice the resolution and averaged: float32 [H, W, 3]."""
    picture = backdrop(view, scene)
    starts, ends = solids.starts[number], solids.ends[number]
    shaded = list(solids.shadowed)
    picture *= shadows(view, scene, starts[shaded], ends[shaded], solids.radii[shaded])[..., None]
    colours, covered = capsules(view.finer(), scene, starts, ends, solids.radii, solids.materials)
    share, summed = _halved(covered.astype(np.float32)), _halved(colours)
    picture *= (1.0 - share)[..., None]
    picture += summed
    return picture


def _halved(fine: Picture) -> Picture:
    """Average 2 x 2 pixels."""
    rows = fine[0::2] + fine[1::2]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25))
