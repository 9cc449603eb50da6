"""The pinhole camera of a strip of frames."""

from __future__ import annotations

import numpy as np

from corpora.mocap.motion.skeleton import Floats
from corpora.mocap.rendering.camera import CameraPath

NEAR = 0.3
"""Metres in front of the camera within which nothing is drawn."""


class View:
    """The camera of the frames of one strip, for pictures of ``width`` x ``height`` pixels.

    Args:
        path: the camera of the whole video.
        frames: which of its frames.
        width, height: in pixels.
    """

    def __init__(self, path: CameraPath, frames: slice, width: int, height: int) -> None:
        self._of = path, frames
        self.position_f3 = path.positions[frames]
        self.axes_f33 = path.axes[frames]
        self.pixels_f = path.focal[frames] * height
        self.width, self.height = width, height

    def __len__(self) -> int:
        return len(self.position_f3)

    def finer(self) -> View:
        """The same view at twice the resolution."""
        return View(*self._of, 2 * self.width, 2 * self.height)

    def project(self, points_fn3: Floats) -> Floats:
        """World points [F, N, 3] to (column, row, depth) [F, N, 3]; a depth below :data:`NEAR` is kept as it is."""
        local = (points_fn3 - self.position_f3[:, None]) @ self.axes_f33.transpose(0, 2, 1)
        scale = self.pixels_f[:, None] / np.maximum(local[..., 2], NEAR)
        column = self.width / 2 + scale * local[..., 0]
        row = self.height / 2 - scale * local[..., 1]
        return np.stack([column, row, local[..., 2]], axis=-1)
