"""How many slots a worker needs, where a group's sources lie in one, and how a crop gets there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pal_ds.config.synthesis import SynthesisConfig
from pal_ds.data.batch import SourceRow
from pal_ds.data.synthesis.sampling import ClipDraws

#: A crop is shipped as it is up to this multiple of the output's area; larger ones are resized in the worker.
SHIP_AREA = 2

#: Top, left, height and width in pixels.
Crop = tuple[int, int, int, int]


def most_in_use(micro_groups: int, workers: int) -> int:
    """Return how many groups of one worker a micro-batch holds at most: its groups go to the workers in turn.

    Args:
        micro_groups: groups of the micro-batch.
        workers: worker processes; 0 for none, where this process makes every group.
    """
    return -(-micro_groups // max(1, workers))


def slot_count(prefetch: int, in_use: int) -> int:
    """Return the slots of a worker: finished groups, groups in use, and the one that is written.

    Args:
        prefetch: finished groups kept ready, ``data.prefetch``.
        in_use: groups of the worker that a consumer holds at once.
    """
    return prefetch + in_use + 1


def slot_bytes(synthesis: SynthesisConfig, group_clips: int, resize: str) -> int:
    """Return the bytes that the sources of one group can need at most."""
    roles = synthesis.views * synthesis.longest_region * synthesis.clip_frames
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
        self._rows: list[list[SourceRow]] = [[], []]

    def write(self, draws: ClipDraws, frames_nhwc: Tensor) -> None:
        """Write a video's region and background of every view out of all its decoded frames.

        Backgrounds are crops of the same frames: where the box around them is smaller than all of them together, it
        is written once, and each is a part of it.
        """
        first = 0
        for region, look in zip(draws.regions, draws.region_looks, strict=True):
            count = len(region.frames)
            self._rows[0].append(self._write(frames_nhwc[first : first + count], look.crop))
            first += count
        if not len(draws.background):
            return
        crops = [look.crop for look in draws.background_looks]
        shared = _box_around(crops)
        if all(map(self._fits, crops)) and _area(shared) < sum(map(_area, crops)):
            written = self._put(_cropped(frames_nhwc[first:], shared))
            self._rows[1].extend(_part(written, shared, crop) for crop in crops)
        else:
            self._rows[1].extend(self._write(frames_nhwc[first:], crop) for crop in crops)

    def _fits(self, crop: Crop) -> bool:
        """Tell whether a crop is shipped as it is."""
        return _area(crop) <= self._ship_area

    def _write(self, frames_nhwc: Tensor, crop: Crop) -> SourceRow:
        pixels = _cropped(frames_nhwc, crop)
        return self._put(pixels if self._fits(crop) else resized(pixels, self._size))

    def _put(self, pixels_nhwc: Tensor) -> SourceRow:
        count, height, width, _ = pixels_nhwc.shape
        start = self._end
        self._end += pixels_nhwc.numel()
        self._buffer[start : self._end].view(pixels_nhwc.shape).copy_(pixels_nhwc)
        return SourceRow(start, count, height, width, 3 * width, 3 * width * height)

    def pixels(self) -> Tensor:
        """Return the part of the slot that is in use."""
        return self._buffer[: self._end]

    def sources(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return a :class:`SourceRow` of every source, int64 [S, 6]: regions first, then backgrounds."""
        return np.array(self._rows[0] + self._rows[1], dtype=np.int64)


def _area(crop: Crop) -> int:
    return crop[2] * crop[3]


def _cropped(frames_nhwc: Tensor, crop: Crop) -> Tensor:
    top, left, height, width = crop
    return frames_nhwc[:, top : top + height, left : left + width]


def _box_around(crops: Sequence[Crop]) -> Crop:
    top, left = min(crop[0] for crop in crops), min(crop[1] for crop in crops)
    bottom, right = max(crop[0] + crop[2] for crop in crops), max(crop[1] + crop[3] for crop in crops)
    return top, left, bottom - top, right - left


def _part(written: SourceRow, box: Crop, crop: Crop) -> SourceRow:
    """Return where a crop lies whose frames were written as part of a larger box."""
    top, left, height, width = crop
    offset = written.offset + (top - box[0]) * written.row_bytes + (left - box[1]) * 3
    return written._replace(offset=offset, height=height, width=width)


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
