"""The device's share of synthesis: resize, flip, colour, blur, blend, normalise (paper section 3.2, Eq. 3).

All numbers were drawn in the worker and are shipped; nothing is drawn here, so the result is a function of the
micro-batch. Plain torch, one draw per (video, role, view): all frames of a source get the same treatment. The
order is fixed: crop (worker), resize, flip, colour (brightness, contrast, saturation, hue, greyscale as one
affine map of RGB), clamp to [0, 1], blur, blend, normalise.
"""

from __future__ import annotations

import functools
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from pal_ds.config.data import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import FRAMES, Group, MicroBatch
from pal_ds.data.synthesis import resized

_GREY = (0.299, 0.587, 0.114)


class Views(TypedDict):
    """What a model is given: the arguments of its ViewBatch.

    Attributes:
        query_bjcthw: float32 [B, J, 3, T, H, W], normalised.
        key_bjcthw: likewise.
        query_region_b2: int64 [B, 2], (start, length) in clips.
        key_region_b2: likewise.
        labels_b: int64 [B], or None where the set has no labels.
    """

    query_bjcthw: Tensor
    key_bjcthw: Tensor
    query_region_b2: Tensor
    key_region_b2: Tensor
    labels_b: Tensor | None


@torch.no_grad()
def render(micro: MicroBatch, synthesis: SynthesisConfig, augment: AugmentConfig) -> Views:
    """Make the two synthetic views of every video of a micro-batch, on the device where its pixels are.

    Group by group, so that the work space is that of one group; no step waits for the device.
    """
    device = micro.device
    clips, length, size = synthesis.view_clips, synthesis.clip_frames, synthesis.size
    views = [torch.empty(len(micro), clips, 3, length, size, size, device=device) for _ in range(2)]
    first = 0
    for group in micro.groups:
        synthetic = _blended(group, synthesis)
        synthetic.sub_(_column(augment.mean, device)).div_(_column(augment.std, device))
        parts = synthetic.view(len(group), 2, clips, length, 3, size, size).transpose(3, 4)
        for number, view in enumerate(views):
            view[first : first + len(group)] = parts[:, number]
        first += len(group)
    regions = torch.cat([group.region for group in micro.groups]).to(device, non_blocking=True)
    labels = micro.labels_b
    return {
        "query_bjcthw": views[0],
        "key_bjcthw": views[1],
        "query_region_b2": regions[:, 0],
        "key_region_b2": regions[:, 1],
        "labels_b": labels.to(device, non_blocking=True) if int(labels.min()) >= 0 else None,
    }


def _blended(group: Group, synthesis: SynthesisConfig) -> Tensor:
    """Return the synthetic videos of a group: float32 [G * 2 * J * T, 3, H, W] in 0..1, ordered (g, view, frame)."""
    device = group.pixels.device
    size, count = synthesis.size, len(group)
    regions = _source_frames(group, [group.row("region", g, v) for g in range(count) for v in range(2)], size)
    if synthesis.paste == "none":
        return regions
    pairs = group.pairs.tolist()
    rows = [group.row("background", pairs[g][v], v) for g in range(count) for v in range(2)]
    synthetic = _source_frames(group, rows, size)
    place, beta = (part.to(device, non_blocking=True) for part in _region_places(group, synthesis))
    under = synthetic[place]
    synthetic[place] = under.add_((regions - under).mul_(beta))
    return synthetic


def _region_places(group: Group, synthesis: SynthesisConfig) -> tuple[Tensor, Tensor]:
    """Return for every region frame its row among the synthetic frames, and its beta [P, 1, 1, 1]."""
    length, clips = synthesis.clip_frames, synthesis.clips
    places, betas = [], []
    for video, views in enumerate(group.region.tolist()):
        for view, (start, count) in enumerate(views):
            row = ((video * 2 + view) * clips + start) * length
            places.append(torch.arange(row, row + count * length))
            betas.append(group.beta[video, view, start : start + count].repeat_interleave(length))
    return torch.cat(places), torch.cat(betas).view(-1, 1, 1, 1)


def _source_frames(group: Group, rows: list[int], size: int) -> Tensor:
    """Return sources resized, flipped, coloured and blurred: float32 [all their frames, 3, size, size] in 0..1."""
    device = group.pixels.device
    counts = [int(group.sources[row, FRAMES]) for row in rows]
    frames = torch.empty(sum(counts), 3, size, size, device=device)
    first = 0
    for row, count in zip(rows, counts, strict=True):
        source = resized(group.frames(row), size)
        source = source.flip(2) if group.flip[row] else source
        _recoloured(source, group.colour[row], group.contrast[row], out=frames[first : first + count])
        if group.blur[row]:
            _blur(frames[first : first + count], float(group.blur[row]))
        first += count
    return frames


def _recoloured(frames_nhwc: Tensor, matrix: Tensor, contrast: Tensor, *, out: Tensor) -> None:
    """Write colour-jittered frames in 0..1 to ``out`` [n, 3, H, W]; ``contrast`` is the share of the mean grey."""
    planar = frames_nhwc.permute(0, 3, 1, 2).float().div_(255).flatten(2)
    grey = planar.mean(dim=(0, 2)) @ torch.tensor(_GREY, device=planar.device)
    bias = (contrast * grey).expand(3).view(1, 3, 1)
    torch.baddbmm(bias, matrix.expand(len(planar), 3, 3), planar, out=out.view(planar.shape))
    out.clamp_(0, 1)


def _blur(frames_nchw: Tensor, sigma: float) -> None:
    """Blur frames in place by a separable Gaussian: two products with a banded matrix."""
    matrix = _gaussian_matrix(frames_nchw.shape[-1], round(sigma, 6)).to(
        frames_nchw.device, non_blocking=True
    )
    frames_nchw.copy_(matrix @ frames_nchw @ matrix.T)


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


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(3, 1, 1)
