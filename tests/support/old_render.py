"""Rendering as it was until videos were rendered together: one source at a time on any device. An oracle for tests.

The form is kept as it was, slow parts included, so that figures of speed can be compared with it too.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.synthesis.slot_layout import resized

_GREY = (0.299, 0.587, 0.114)


@torch.no_grad()
def render(micro: MicroBatch, synthesis: SynthesisConfig, augment: AugmentConfig) -> dict[str, Any]:
    """Make the synthetic views of every video of a micro-batch, on the device where its pixels are.

    One view at a time through the same work space, which stays in the caches of a CPU; no step waits for the device.
    """
    device = micro.device
    clips, length, size = synthesis.view_clips, synthesis.clip_frames, synthesis.size
    shape = (len(micro), clips, 3, length, size, size)
    views = [torch.empty(shape, device=device) for _ in range(synthesis.views)]
    mean, std = _channels(tuple(augment.mean), device), _channels(tuple(augment.std), device)
    work = torch.empty(3, clips * length * 3 * size * size, device=device)
    sample = 0
    for group in micro.groups:
        beta = group.beta.repeat_interleave(length, dim=2).to(device, non_blocking=True)
        for video in range(len(group)):
            for number, view in enumerate(views):
                synthetic = _synthetic(group, video, number, beta[video, number], synthesis, work)
                parts = synthetic.view(3, clips, length, size, size).transpose(0, 1)
                torch.sub(parts, mean, out=view[sample]).div_(std)
            sample += 1
    regions = torch.cat([group.region for group in micro.groups]).to(device, non_blocking=True)
    labels = micro.labels_b
    pairs = [(view, regions[:, number]) for number, view in enumerate(views)]
    return {
        "query_bjcthw": pairs[0][0],
        "key_bjcthw": pairs[1][0] if len(pairs) > 1 else None,
        "query_region_b2": pairs[0][1],
        "key_region_b2": pairs[1][1] if len(pairs) > 1 else None,
        "more_keys": tuple(pairs[2:]),
        "labels_b": labels.to(device, non_blocking=True) if int(labels.min()) >= 0 else None,
    }


def _synthetic(
    group: Group, video: int, view: int, beta: Tensor, synthesis: SynthesisConfig, work: Tensor
) -> Tensor:
    """Return one synthetic video: float32 [3, J * T, H, W] in 0..1, in ``work``.

    Args:
        group: its group.
        video: the video whose region is pasted.
        view: 0 query, 1 and up keys.
        beta: share of the action per frame, [J * T].
        synthesis: geometry.
        work: three buffers of the size of a view.
    """
    size, length = synthesis.size, synthesis.clip_frames
    region = _source(group, group.row("region", video, view), size, work[0], work[2])
    if synthesis.paste == "none":
        return region
    background = group.row("background", int(group.pairs[video, view]), view)
    synthetic = _source(group, background, size, work[1], work[2])
    start, count = (int(value) * length for value in group.region[video, view])
    inside = slice(start, start + count)
    synthetic[:, inside].lerp_(region, beta[inside].view(1, -1, 1, 1))
    return synthetic


def _source(group: Group, row: int, size: int, into: Tensor, spare: Tensor) -> Tensor:
    """Return a source resized, flipped, coloured and blurred: float32 [3, its frames, size, size] in 0..1.

    The result lies in ``into``; ``spare`` is overwritten.
    """
    source = resized(group.frames(row), size)
    source = source.flip(2) if group.flip[row] else source
    shape = (3, len(source), size, size)
    used = 3 * shape[1] * size * size
    planar, mixed = spare[:used].view(3, -1), into[:used].view(3, -1)
    # Channels are parted while they are bytes: a quarter of the memory traffic.
    planar.copy_(source.permute(3, 0, 1, 2).contiguous().view(3, -1)).div_(255)
    grey = _channels(_GREY, planar.device).view(1, 3) @ planar.mean(dim=1, keepdim=True)
    torch.addmm((group.contrast[row] * grey).expand(3, 1), group.colour[row], planar, out=mixed)
    mixed.clamp_(0, 1)
    if group.blur[row]:
        matrix = _gaussian_matrix(size, round(float(group.blur[row]), 6)).to(planar.device, non_blocking=True)
        torch.matmul(matrix, mixed.view(-1, size, size), out=planar.view(-1, size, size))
        torch.mm(planar.view(-1, size), matrix.T, out=mixed.view(-1, size))
    return mixed.view(shape)


@functools.lru_cache(maxsize=64)
def _gaussian_matrix(size: int, sigma: float) -> Tensor:
    """Return the matrix [size, size] that blurs a column, edges mirrored; every row sums to 1."""
    radius = min(size - 1, max(1, int(np.ceil(3 * sigma))))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix = np.zeros((size, size))
    for row in range(size):
        for offset, weight in zip(offsets, kernel / kernel.sum(), strict=True):
            at = abs(row + int(offset))
            matrix[row, at if at < size else 2 * (size - 1) - at] += weight
    return torch.from_numpy(matrix.astype(np.float32))


@functools.lru_cache(maxsize=16)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return three numbers, one per colour, for tensors [.., 3, T, H, W]."""
    return torch.tensor(values, device=device).view(3, 1, 1, 1)
