"""Reads the real motion capture that PyPI's ``pybullet`` ships, at one common rate."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from corpora.mocap.motion.skeleton import JOINTS, Floats, Track, about, slerp

RATE = 60.0
"""Samples per second of every track in this package, before a video's own frame rate is taken."""

MOTIONS = (
    "backflip",
    "cartwheel",
    "crawl",
    "dance_a",
    "dance_b",
    "getup_facedown",
    "getup_faceup",
    "jump",
    "kick",
    "punch",
    "roll",
    "run",
    "spin",
    "spinkick",
    "walk",
)

# Columns of a row: duration, root position, then per joint a quaternion (w, x, y, z) or a hinge angle about z.
_HINGES = {"right_knee", "right_elbow", "left_knee", "left_elbow"}


class MotionDataError(RuntimeError):
    """The motion files can't be found or don't have the form this package reads."""


def motion_folder() -> Path:
    """Find the motion files.

    Raises:
        MotionDataError: pybullet isn't installed, or ships no motions.
    """
    try:
        import pybullet_data
    except ImportError as error:
        raise MotionDataError("pybullet is not installed: pip install pybullet") from error
    folder = Path(pybullet_data.getDataPath()) / "data" / "motions"
    if not folder.is_dir():
        raise MotionDataError(f"no motions under {folder}: install pybullet>=3.2.6")
    return folder


@functools.cache
def load(name: str) -> Track:
    """Load one motion, resampled to :data:`RATE`.

    Args:
        name: one of :data:`MOTIONS`.

    Raises:
        MotionDataError: the file is missing or malformed.
    """
    path = motion_folder() / f"humanoid3d_{name}.txt"
    try:
        rows = np.asarray(json.loads(path.read_text())["Frames"], dtype=np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise MotionDataError(f"{path}: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 44:
        raise MotionDataError(f"{path}: rows of {rows.shape[-1]} columns, expected 44")
    return _resampled(rows)


def _resampled(rows: Floats) -> Track:
    rotations = np.empty((len(rows), len(JOINTS), 4))
    column = 4
    for joint, name in enumerate(JOINTS):
        if name in _HINGES:
            rotations[:, joint] = about(2, rows[:, column])
            column += 1
        else:
            rotations[:, joint] = rows[:, column : column + 4]
            column += 4
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    times = np.concatenate([[0.0], np.cumsum(rows[:-1, 0])])
    wanted = np.arange(0.0, times[-1] + 1e-9, 1.0 / RATE)
    return sample(Track(root_t3=rows[:, 1:4], rotations_tj4=rotations), times, wanted)


def sample(track: Track, times: Floats, wanted: Floats) -> Track:
    """Interpolate a track known at ``times`` (increasing, seconds) at the times ``wanted``."""
    position = np.interp(wanted, times, np.arange(len(times)))
    low = np.minimum(position.astype(np.int64), len(times) - 2)
    weight = position - low
    root = track.root_t3[low] * (1 - weight[:, None]) + track.root_t3[low + 1] * weight[:, None]
    turns = slerp(
        track.rotations_tj4[low], track.rotations_tj4[low + 1], np.repeat(weight[:, None], len(JOINTS), 1)
    )
    return Track(root_t3=root, rotations_tj4=turns)
