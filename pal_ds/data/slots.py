"""Where a group's sources lie in a worker's slot, and how a crop gets there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pal_ds.config.data import SynthesisConfig
from pal_ds.data.sampling import ClipDraws, Look

#: A crop is shipped as it is up to this multiple of the output's area; larger ones are resized in the worker.
SHIP_AREA = 2


def slot_bytes(synthesis: SynthesisConfig, group_clips: int, resize: str) -> int:
    """Return the bytes that the sources of one group can need at most."""
    roles = synthesis.views * synthesis.region_max * synthesis.clip_frames
    if synthesis.paste != "none":
        roles += synthesis.views * synthesis.clips * synthesis.clip_frames
    area = synthesis.size**2 * (SHIP_AREA if resize == "device" else 1)
    return group_clips * roles * area * 3


class SlotWriter:
    """Writes sources one after the other into a slot.

    Args:
        buffer: uint8, flat, at least :func:`slot_bytes`.
        synthesis: geometry.
        resize: "device" or "worker": where crops become ``synthesis.size`` pixels.
    """

    def __init__(self, buffer: Tensor, synthesis: SynthesisConfig, resize: str) -> None:
        self._buffer = buffer
        self._size = synthesis.size
        self._ship_area = synthesis.size**2 * SHIP_AREA if resize == "device" else 0
        self._end = 0
        self._rows: list[list[tuple[int, int, int, int]]] = [[], []]

    def write(self, draws: ClipDraws, frames_nhwc: Tensor) -> None:
        """Write a video's region and background of every view out of all its decoded frames."""
        first = 0
        for region, look in zip(draws.regions, draws.region_looks, strict=True):
            count = len(region.frames)
            self._rows[0].append(self._write(frames_nhwc[first : first + count], look))
            first += count
        if len(draws.background):
            for look in draws.background_looks:
                self._rows[1].append(self._write(frames_nhwc[first:], look))

    def _write(self, frames_nhwc: Tensor, look: Look) -> tuple[int, int, int, int]:
        top, left, height, width = look.crop
        crop = frames_nhwc[:, top : top + height, left : left + width]
        if height * width > self._ship_area and (height, width) != (self._size, self._size):
            crop = resized(crop, self._size)
        count, height, width, _ = crop.shape
        start = self._end
        self._end += crop.numel()
        self._buffer[start : self._end].view(crop.shape).copy_(crop)
        return start, count, height, width

    def pixels(self) -> Tensor:
        """Return the part of the slot that is in use."""
        return self._buffer[: self._end]

    def sources(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return offset, frames, height and width of every source: regions first, then backgrounds."""
        return np.array(self._rows[0] + self._rows[1], dtype=np.int64)


def resized(frames_nhwc: Tensor, size: int) -> Tensor:
    """Resize uint8 frames to ``size`` x ``size``, bilinear with antialiasing, rounded to uint8.

    The CPU does it in integers on channels-last memory; other devices in float32, at most one grey level off.
    """
    if frames_nhwc.shape[1:3] == (size, size):
        return frames_nhwc
    nchw = frames_nhwc.permute(0, 3, 1, 2)
    if frames_nhwc.device.type != "cpu":
        out = F.interpolate(nchw.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        return out.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    out = F.interpolate(nchw, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return out.permute(0, 2, 3, 1)
