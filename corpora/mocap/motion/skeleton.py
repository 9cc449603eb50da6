"""The 13-joint humanoid of the motion files: tree, quaternions, forward kinematics, mirroring.

Axes follow the files: x forward, y up, z to the actor's right; metres; quaternions are (w, x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

JOINTS = (
    "root",
    "chest",
    "neck",
    "right_hip",
    "right_knee",
    "right_ankle",
    "right_shoulder",
    "right_elbow",
    "left_hip",
    "left_knee",
    "left_ankle",
    "left_shoulder",
    "left_elbow",
)
INDEX = {name: number for number, name in enumerate(JOINTS)}
_PARENT = (-1, 0, 1, 0, 3, 4, 1, 6, 0, 8, 9, 1, 11)
_MIRROR = (0, 1, 2, 8, 9, 10, 11, 12, 3, 4, 5, 6, 7)

# Offsets from the parent joint: humanoid.urdf of the package that ships the motions, times its scale of 1/4.
_OFFSETS = np.array(
    [
        [0.0, 0.0, 0.0],
        [0.0, 0.236151, 0.0],
        [0.0, 0.223894, 0.0],
        [0.0, 0.0, 0.084887],
        [0.0, -0.421546, 0.0],
        [0.0, -0.409870, 0.0],
        [-0.024050, 0.243500, 0.183110],
        [0.0, -0.274788, 0.0],
        [0.0, 0.0, -0.084887],
        [0.0, -0.421546, 0.0],
        [0.0, -0.409870, 0.0],
        [-0.024050, 0.243500, -0.183110],
        [0.0, -0.274788, 0.0],
    ]
)
FOREARM = 0.258947


@dataclass(frozen=True, kw_only=True)
class Track:
    """Poses over time.

    Attributes:
        root_t3: position of the root, metres, float64 [T, 3].
        rotations_tj4: rotation of each joint relative to its parent, unit quaternions, float64 [T, 13, 4].
    """

    root_t3: Floats
    rotations_tj4: Floats

    def __len__(self) -> int:
        return len(self.root_t3)

    def __getitem__(self, frames: slice) -> Track:
        return Track(root_t3=self.root_t3[frames], rotations_tj4=self.rotations_tj4[frames])


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """How a body differs from the captured one; every field is a ratio."""

    legs: float = 1.0
    arms: float = 1.0
    torso: float = 1.0
    shoulders: float = 1.0
    girth: float = 1.0


def multiply(a: Floats, b: Floats) -> Floats:
    """Hamilton product of quaternions [..., 4]."""
    aw, ax, ay, az = (a[..., i] for i in range(4))
    bw, bx, by, bz = (b[..., i] for i in range(4))
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def rotate(q: Floats, v: Floats) -> Floats:
    """Rotate vectors [..., 3] by unit quaternions [..., 4]."""
    u = q[..., 1:]
    t = 2.0 * np.cross(u, v)
    return np.asarray(v + q[..., :1] * t + np.cross(u, t))


def about(axis: int, angle: Floats) -> Floats:
    """Quaternions [..., 4] that turn by ``angle`` (radians) about coordinate axis 0, 1 or 2."""
    q = np.zeros((*np.shape(angle), 4))
    q[..., 0] = np.cos(np.asarray(angle) / 2)
    q[..., axis + 1] = np.sin(np.asarray(angle) / 2)
    return q


def slerp(a: Floats, b: Floats, weight: Floats) -> Floats:
    """Interpolate along the shorter arc; ``weight`` broadcasts against [...]."""
    dot = np.sum(a * b, axis=-1, keepdims=True)
    b = np.where(dot < 0, -b, b)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    w = np.asarray(weight)[..., None]
    sine = np.sin(angle)
    near = sine < 1e-6
    safe = np.where(near, 1.0, sine)
    wa = np.where(near, 1.0 - w, np.sin((1.0 - w) * angle) / safe)
    wb = np.where(near, w, np.sin(w * angle) / safe)
    mixed = wa * a + wb * b
    return np.asarray(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))


def heading(root_rotation: Floats) -> Floats:
    """Yaw in radians: the twist about y of the root's rotation [..., 4] (defined for lying actors too)."""
    return np.asarray(2.0 * np.arctan2(root_rotation[..., 2], root_rotation[..., 0]))


def turned(track: Track, yaw: float, pivot: Floats | None = None) -> Track:
    """Turn a whole track by ``yaw`` about the vertical through ``pivot`` (default: the origin)."""
    centre = np.zeros(3) if pivot is None else pivot * np.array([1.0, 0.0, 1.0])
    q = about(1, np.asarray(yaw))
    rotations = track.rotations_tj4.copy()
    rotations[:, 0] = multiply(np.broadcast_to(q, rotations[:, 0].shape), rotations[:, 0])
    root = rotate(np.broadcast_to(q, (len(track), 4)), track.root_t3 - centre) + centre
    return Track(root_t3=root, rotations_tj4=rotations)


def moved(track: Track, offset: Floats) -> Track:
    """Shift a track by ``offset`` [3]."""
    return replace(track, root_t3=track.root_t3 + offset)


def joined(parts: list[Track]) -> Track:
    """Put tracks one after the other, as they are."""
    return Track(
        root_t3=np.concatenate([part.root_t3 for part in parts]),
        rotations_tj4=np.concatenate([part.rotations_tj4 for part in parts]),
    )


def mirrored(track: Track) -> Track:
    """Swap left and right (reflection in the x-y plane)."""
    return Track(
        root_t3=track.root_t3 * np.array([1.0, 1.0, -1.0]),
        rotations_tj4=track.rotations_tj4[:, _MIRROR] * np.array([1.0, -1.0, -1.0, 1.0]),
    )


def forward_kinematics(track: Track, shape: Proportions) -> tuple[Floats, Floats]:
    """Place every joint of a body in the world.

    Args:
        track: the poses.
        shape: the body's proportions; the root is lifted with the length of the legs.

    Returns:
        positions [T, 13, 3] in metres and world rotations [T, 13, 4] of the joints.
    """
    offsets = _OFFSETS.copy()
    offsets[[4, 5, 9, 10]] *= shape.legs
    offsets[[7, 12]] *= shape.arms
    offsets[[1, 2]] *= shape.torso
    offsets[[6, 11]] *= np.array([1.0, shape.torso, shape.shoulders])
    offsets[[3, 8]] *= shape.girth
    positions = np.empty((len(track), len(JOINTS), 3))
    world = np.empty((len(track), len(JOINTS), 4))
    for joint, parent in enumerate(_PARENT):
        if parent < 0:
            positions[:, 0] = track.root_t3 * np.array([1.0, shape.legs, 1.0])
            world[:, 0] = track.rotations_tj4[:, 0]
            continue
        world[:, joint] = multiply(world[:, parent], track.rotations_tj4[:, joint])
        positions[:, joint] = positions[:, parent] + rotate(
            world[:, parent], np.broadcast_to(offsets[joint], (len(track), 3))
        )
    return positions, world
