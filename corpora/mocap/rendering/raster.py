"""Draws capsules and the box around them, a strip of frames at a time: plain NumPy, a millisecond a frame.

A capsule is drawn as what it projects to, a segment swept by a disc whose radius changes linearly. Depth and
normal come from the disc's sphere, so limbs intersect, occlude and shade as solids do. A capsule is drawn in all
frames of a strip at once: at 64 pixels it covers so few that NumPy's calls would cost more than their work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpora.mocap.motion.skeleton import Floats
from corpora.mocap.rendering.backdrop import Backdrop, Picture
from corpora.mocap.rendering.body import Capsules, Material
from corpora.mocap.rendering.scene import Scene
from corpora.mocap.rendering.view import NEAR, View

STRIP = 24
"""Frames of a strip."""


@dataclass(frozen=True, kw_only=True)
class _Hits:
    """The pixels of a strip that one capsule covers, one entry each.

    Attributes:
        pixel: index into [F, H, W]. frame: index into the strip.
        along: place along the segment, 0 to 1. ox, oy: offsets from it, pixels. square: their squared length.
        radius: there, in pixels.
    """

    pixel: NDArray[np.int64]
    frame: NDArray[np.int64]
    along: Picture
    ox: Picture
    oy: Picture
    square: Picture
    radius: Picture


def _swept(view: View, a_f3: Floats, b_f3: Floats, ra_f: Floats, rb_f: Floats) -> _Hits | None:
    """Find what a disc of radius ``ra_f`` to ``rb_f`` covers on its way from ``a_f3`` to ``b_f3`` in each frame."""
    left = np.maximum(0, np.minimum(a_f3[:, 0] - ra_f, b_f3[:, 0] - rb_f).astype(int))
    right = np.minimum(view.width, np.maximum(a_f3[:, 0] + ra_f, b_f3[:, 0] + rb_f).astype(int) + 2)
    top = np.maximum(0, np.minimum(a_f3[:, 1] - ra_f, b_f3[:, 1] - rb_f).astype(int))
    bottom = np.minimum(view.height, np.maximum(a_f3[:, 1] + ra_f, b_f3[:, 1] + rb_f).astype(int) + 2)
    near = np.minimum(a_f3[:, 2], b_f3[:, 2]) < NEAR
    seen = np.flatnonzero((left < right) & (top < bottom) & ~near)
    if not seen.size:
        return None
    wide, high = (right - left)[seen].max(), (bottom - top)[seen].max()
    a, b = (points[seen].astype(np.float32)[..., None, None] for points in (a_f3, b_f3))
    columns = left[seen][:, None, None] + np.arange(wide)
    rows = top[seen][:, None, None] + np.arange(high)[:, None]
    dx, dy = b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]
    px, py = (columns + np.float32(0.5)).astype(np.float32) - a[:, 0], rows + np.float32(0.5) - a[:, 1]
    py = py.astype(np.float32)
    along = np.clip((px * dx + py * dy) * (1 / (dx * dx + dy * dy + np.float32(1e-6))), 0, 1)
    ox, oy = px - along * dx, py - along * dy
    square = ox * ox + oy * oy
    ra, rb = (radii[seen].astype(np.float32)[:, None, None] for radii in (ra_f, rb_f))
    radius = ra + along * (rb - ra)
    inside = square < radius * radius
    inside &= (columns < right[seen][:, None, None]) & (rows < bottom[seen][:, None, None])
    hit = np.flatnonzero(inside)
    number, rest = np.divmod(hit, wide * high)
    row, column = np.divmod(rest, wide)
    frame = seen[number]
    pixel = (frame * view.height + top[frame] + row) * view.width + left[frame] + column
    values = (part.ravel()[hit] for part in (along, ox, oy, square, radius))
    along, ox, oy, square, radius = values
    return _Hits(pixel=pixel, frame=frame, along=along, ox=ox, oy=oy, square=square, radius=radius)


def _odd(material: Material, along: Picture, across: Picture) -> NDArray[np.bool_]:
    """Say where a material shows its second colour."""
    rings = (along * np.float32(material.repeats * 2)).astype(np.int32)
    stripes = ((across + 1) * np.float32(material.repeats)).astype(np.int32)
    return np.asarray((rings, stripes, rings + stripes)[material.pattern - 1] & 1, dtype=np.bool_)


def capsules(view: View, scene: Scene, solids: Capsules, frames: slice) -> tuple[Picture, Picture]:
    """Draw capsules over nothing.

    Returns:
        colours float32 [3, F, H, W], 0 where nothing is, and depth in metres float32 [F, H, W], infinite there.
    """
    shape = (len(view), view.height, view.width)
    colours = np.zeros((3, len(view) * view.height * view.width), dtype=np.float32)
    depth = np.full(colours.shape[1], np.inf, dtype=np.float32)
    a, b = view.project(solids.starts[frames]), view.project(solids.ends[frames])
    light_f3 = (view.axes_f33 @ scene.light).astype(np.float32)
    tint = scene.tint.astype(np.float32)
    ambient = np.float32(scene.ambient)
    for number, material in enumerate(solids.materials):
        za, zb = a[:, number, 2], b[:, number, 2]
        ra, rb = solids.radii[number]
        scale_a, scale_b = view.pixels_f / np.maximum(za, NEAR), view.pixels_f / np.maximum(zb, NEAR)
        hits = _swept(view, a[:, number], b[:, number], ra * scale_a, rb * scale_b)
        if hits is None:
            continue
        out = np.sqrt(1.0 - hits.square / (hits.radius * hits.radius))
        near, far = (ends.astype(np.float32).take(hits.frame) for ends in (za, zb - za))
        z = near + hits.along * far - out * np.float32(max(ra, rb))
        front = np.flatnonzero(z < depth.take(hits.pixel))
        pixel, frame, radius = hits.pixel[front], hits.frame[front], hits.radius[front]
        ox, oy, out = hits.ox[front], hits.oy[front], out[front]
        depth[pixel] = z[front]
        light = light_f3[frame].T
        lit = (ox * light[0] - oy * light[1]) / radius - out * light[2]
        shade = ambient + (1 - ambient) * np.maximum(lit, 0)
        shade *= np.float32(0.75) + np.float32(0.25) * out
        odd = None
        if material.pattern:
            dx, dy = (b[:, number, i] - a[:, number, i] for i in (0, 1))
            length = np.maximum(np.hypot(dx, dy), 1e-3)
            side_x, side_y = ((part / length).astype(np.float32).take(frame) for part in (-dy, dx))
            across = np.asarray((ox * side_x + oy * side_y) / radius, dtype=np.float32)
            odd = _odd(material, hits.along[front], across)
        for channel in range(3):
            first, second = (np.float32(each[channel]) for each in (material.first, material.second))
            colour = shade * first if odd is None else shade * np.where(odd, second, first)
            colours[channel][pixel] = colour * tint[channel]
    return colours.reshape(3, *shape), depth.reshape(shape)


def shadows(view: View, scene: Scene, solids: Capsules, frames: slice) -> Picture:
    """Darkness of the floor under capsules, with soft edges: gain float32 [F, H, W]."""
    shaded = list(solids.shadowed)
    slope = scene.light / scene.light[1]
    starts, ends = solids.starts[frames][:, shaded], solids.ends[frames][:, shaded]
    a, b = (view.project(points - slope * points[..., 1:2]) for points in (starts, ends))
    cover = np.zeros(len(view) * view.height * view.width, dtype=np.float32)
    for number, radii in enumerate(solids.radii[shaded]):
        # The floor is seen at a slant, so a shadow's disc is flattened; its mean radius is near enough.
        ra, rb = (
            float(radius) * view.pixels_f / np.maximum(points[:, number, 2], NEAR) * 0.8 + 0.5
            for radius, points in zip(radii, (a, b), strict=True)
        )
        hits = _swept(view, a[:, number], b[:, number], ra, rb)
        if hits is None:
            continue
        dark = np.minimum(np.float32(1.5) * (1 - np.sqrt(hits.square) / hits.radius), 1)
        cover[hits.pixel] = np.maximum(cover.take(hits.pixel), dark)
    gain = 1 - np.float32(scene.shadow) * cover
    return np.asarray(gain, dtype=np.float32).reshape(len(view), view.height, view.width)


def strip(view: View, backdrop: Backdrop, scene: Scene, solids: Capsules, frames: slice) -> Picture:
    """Draw whole pictures, figures at twice the resolution and averaged.

    Args:
        view: the camera of the frames.
        backdrop: of the scene.
        scene: the place and its light.
        solids: everything in it, for all frames of the video.
        frames: which of them.

    Returns:
        Light, float32 [3, F, H, W], 0 to 255 and beyond.
    """
    picture = backdrop(view)
    gain = shadows(view, scene, solids, frames)
    colours, depth = capsules(view.finer(), scene, solids, frames)
    gain *= 1.0 - _halved(np.isfinite(depth).astype(np.float32))
    picture *= gain
    picture += _halved(colours)
    return picture


def _halved(fine: Picture) -> Picture:
    """Average 2 x 2 pixels of the last two axes."""
    rows = fine[..., 0::2, :] + fine[..., 1::2, :]
    return np.asarray((rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25))
