"""Rendering for accelerators: all videos of a micro-batch together, in a number of operators that stays the same.

Sources have sizes of their own, so every step is a batched matrix product whose matrices hold what differs: resizing
(antialiased triangle filter) down the rows; resizing, flip and colour along the rows in one matrix; then the blur
both ways. What is left are one gather, one clamp and one blend. Memory is laid out [source, row, frame, column,
colour] all the way, so nothing is transposed before the views are written.

The number that contrast adds to a whole source would cost a pass of its own. Rows of the blur and the blend sum to
one, so it is carried beside the pixels: the clamp takes shifted bounds, and the last addition puts it back.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import Group, joined_pixels

#: Weights of R, G and B in a grey.
GREY = (0.299, 0.587, 0.114)
#: Views rendered at a time, which bounds the work space: about 25 MB each in half precision at 112 pixels.
VIEWS_AT_ONCE = 32
#: Sizes are padded to it, as fast matrix products want.
_ALIGNED = 8

Array = np.ndarray[Any, np.dtype[Any]]


@dataclasses.dataclass(frozen=True)
class _Table:
    """Where the sources of all views lie, on the host; N views, views of one number side by side.

    Attributes:
        rows: one :class:`SourceRow` a source in pixels, int64 [S, 6].
        looks: flip, blur, contrast and the colour matrix row by row, float32 [S, 12].
        region: each view's region, (source, first frame, frames), int64 [N, 3].
        ground: each view's background, a source, int64 [N]; -1 where nothing is pasted.
        beta: share of the action, float32 [N, J].
    """

    rows: Array
    looks: Array
    region: Array
    ground: Array
    beta: Array


def render_together(
    groups: Sequence[Group], synthesis: SynthesisConfig, augment: AugmentConfig, dtype: torch.dtype
) -> Tensor:
    """Return all views, normalised: ``dtype`` [V, B, J, 3, T, H, W], channels-last in memory.

    Half-precision views are computed in float16, whatever their type: near white it resolves an eighth of a grey
    level where bfloat16 resolves one.
    """
    table = _table(groups, synthesis)
    pixels = joined_pixels(groups).view(-1, 3)
    size, frames = synthesis.size, synthesis.view_clips * synthesis.clip_frames
    views = torch.empty((len(table.ground), frames, size, size, 3), dtype=dtype, device=pixels.device)
    work = torch.float32 if dtype == torch.float32 else torch.float16
    for first in range(0, len(views), VIEWS_AT_ONCE):
        chunk = slice(first, min(first + VIEWS_AT_ONCE, len(views)))
        _render_chunk(pixels, table, chunk, views[chunk], synthesis, augment, work)
    parts = (synthesis.views, -1, synthesis.view_clips, synthesis.clip_frames, size, size, 3)
    return views.view(parts).permute(0, 1, 2, 6, 3, 4, 5)


def _table(groups: Sequence[Group], synthesis: SynthesisConfig) -> _Table:
    views, length = synthesis.views, synthesis.clip_frames
    starts = np.cumsum([0, *(group.pixels.numel() for group in groups)])
    firsts = np.cumsum([0, *(len(group.sources) for group in groups)])
    rows, looks, regions, grounds = [], [], [], []
    for group, start, first in zip(groups, starts, firsts, strict=False):
        own = group.sources.copy()
        own[:, 0] += start
        rows.append(own // [3, 1, 1, 1, 3, 3])
        numbers = (group.flip[:, None], group.blur[:, None], group.contrast.numpy()[:, None])
        looks.append(
            np.concatenate([*numbers, group.colour.numpy().reshape(-1, 9)], axis=1, dtype=np.float32)
        )
        count = len(group)
        source = np.arange(count * views).reshape(count, views)
        place = group.region.numpy() * length
        regions.append(np.stack([source + first, place[..., 0], place[..., 1]], axis=-1))
        behind = (count + group.pairs.numpy()) * views + np.arange(views) + first
        grounds.append(behind if synthesis.paste != "none" else np.full((count, views), -1))
    beta = np.concatenate([group.beta.numpy() for group in groups])
    return _Table(
        rows=np.concatenate(rows),
        looks=np.concatenate(looks),
        region=np.concatenate(regions).swapaxes(0, 1).reshape(-1, 3),
        ground=np.concatenate(grounds).T.reshape(-1),
        beta=beta.swapaxes(0, 1).reshape(len(beta) * views, -1),
    )


def _render_chunk(
    pixels: Tensor,
    table: _Table,
    chunk: slice,
    into: Tensor,
    synthesis: SynthesisConfig,
    augment: AugmentConfig,
    work: torch.dtype,
) -> None:
    """Render some views into [n, frames, H, W, 3].

    Args:
        pixels: uint8 [P, 3], those of all groups.
        table: of all views.
        chunk: which views.
        into: where they go.
        synthesis: geometry.
        augment: mean and standard deviation.
        work: type of the arithmetic.
    """
    size, count, frames = synthesis.size, into.shape[0], into.shape[1]
    host = _numbers(table, chunk, size, frames, synthesis.paste != "none", len(pixels))
    numbers = to_device(host, pixels.device)
    sources, (height, width) = len(host["axes"]) // 2, (host["down"].shape[1], host["across"].shape[1])
    mean, std = (numbers_on(tuple(values), pixels.device) for values in (augment.mean, augment.std))
    weights = _triangles(numbers["axes"], size, max(height, width))
    rows_syh, columns_sxw = weights[:sources, :, :height], weights[sources:, :, :width]
    image = _gathered(pixels, numbers).to(work).view(sources, height, -1)
    # One row more: the mean of all rows, from which the mean grey is taken.
    tall = torch.cat((rows_syh, rows_syh.mean(dim=1, keepdim=True)), dim=1).to(work) @ image
    del image
    grey_s = _mean_grey(tall[:, size].view(sources, frames, -1), columns_sxw, numbers["share"])
    shift_s1 = (numbers["contrast"] * grey_s).unsqueeze(1)
    colour_skc = numbers["colour"].view(-1, 3, 3).transpose(1, 2) / (255 * std)
    across = _along_rows(columns_sxw.transpose(1, 2), colour_skc, work)
    image = tall[:, :size].reshape(sources, size * frames, -1) @ across
    del tall
    low, high = ((bound / std).to(work).view(-1, 1, 1, 3) for bound in (-shift_s1, 1 - shift_s1))
    image = image.view(sources, size * frames, size, 3).clamp_(low, high)
    if host["blur"].any():
        image = _blurred(image, numbers["blur"], size, work)
    image = image.view(sources, size, frames, size, 3)
    shift_s3 = (shift_s1 - mean) / std
    shape = (count, 1, frames, 1, 1)
    if len(image) == count:
        blended, shift = image, shift_s3.view(count, 1, 1, 1, 3)
    else:
        beta = numbers["beta"].view(shape)
        blended = image[count:].lerp_(image[:count], beta.to(work))
        shift = torch.lerp(
            shift_s3[count:].view(count, 1, 1, 1, 3), shift_s3[:count].view(count, 1, 1, 1, 3), beta
        )
    torch.add(blended, shift.to(work), out=into.permute(0, 2, 1, 3, 4))


def _numbers(
    table: _Table, chunk: slice, size: int, frames: int, pasted: bool, pixels: int
) -> dict[str, Array]:
    """Return all that the device is told of some views: regions first, then backgrounds, S sources in all.

    Returns:
        axes: float32 [2 S, 4], rows then columns of each source: centre of output 0, from one output to the next,
            1 / width of the filter, pixels there are.
        frame: first pixel of each frame, [S, frames].
        down: from the first row to each, [S, padded height].
        across: from the first column to each, [S, padded width].
        share: of each frame in a mean over the source, float32 [S, frames].
        colour, contrast, blur: float32 [S, 9], [S], [S].
        beta: float32 [n, frames], 0 outside the region.
    """
    source, start, count = table.region[chunk].T
    time = np.arange(frames)
    inside = (time >= start[:, None]) & (time < (start + count)[:, None])
    beta = np.repeat(table.beta[chunk], frames // table.beta.shape[1], axis=1) if pasted else inside
    # Outside its region an action is a still, which the blend leaves out.
    frame = (
        np.clip(time - start[:, None], 0, count[:, None] - 1) if pasted else np.tile(time, (len(source), 1))
    )
    share = inside / count[:, None] if pasted else np.full(inside.shape, 1 / frames)
    if pasted:
        source = np.concatenate([source, table.ground[chunk]])
        frame = np.concatenate([frame, np.tile(time, (len(inside), 1))])
        share = np.concatenate([share, np.full(inside.shape, 1 / frames)])
    offset, _, height, width, row, step = table.rows[source].T
    look = table.looks[source]
    index = np.int32 if pixels < 1 << 31 else np.int64
    tall, wide = (-(-int(side.max()) // _ALIGNED) * _ALIGNED for side in (height, width))
    flip = look[:, 0] > 0
    scale = np.concatenate([height, width]) / size
    turned = np.concatenate([np.zeros_like(flip), flip])
    ends = np.concatenate([height, width])
    axes = np.stack(
        [
            np.where(turned, ends - scale / 2, scale / 2),
            np.where(turned, -scale, scale),
            1 / np.maximum(scale, 1),
            ends,
        ],
        axis=1,
    )
    return {
        "frame": (offset[:, None] + frame * step[:, None]).astype(index),
        "down": (np.minimum(np.arange(tall), height[:, None] - 1) * row[:, None]).astype(index),
        "across": np.minimum(np.arange(wide), width[:, None] - 1).astype(index),
        "axes": axes.astype(np.float32),
        "share": share.astype(np.float32),
        "colour": look[:, 3:],
        "contrast": look[:, 2],
        "blur": look[:, 1],
        "beta": np.where(inside, beta, 0).astype(np.float32),
    }


def _gathered(pixels: Tensor, numbers: Mapping[str, Tensor]) -> Tensor:
    """Return the sources' pixels, uint8 [S, padded height, frames, padded width, 3]; the padding has no weight."""
    row_sht = numbers["down"].unsqueeze(2) + numbers["frame"].unsqueeze(1)
    at_shtw = row_sht.unsqueeze(3) + numbers["across"].unsqueeze(1).unsqueeze(1)
    return pixels.index_select(0, at_shtw.view(-1)).view(*at_shtw.shape, 3)


def _triangles(axes: Tensor, size: int, pixels: int) -> Tensor:
    """Return the weight of every pixel in every output, [axes, size, pixels]: bilinear, antialiased.

    As torch's ``interpolate(mode="bilinear", antialias=True, align_corners=False)``: a triangle around each output's
    centre, as wide as an output where it is larger than a pixel, cut off at the edges; weights sum to 1.
    """
    output = ramp(size, axes.device).view(1, size, 1)
    pixel = ramp(pixels, axes.device).view(1, 1, pixels)
    first, step, sharpness, end = (column.view(-1, 1, 1) for column in axes.unbind(1))
    distance = (pixel + (0.5 - first - step * output)).abs_().mul_(sharpness)
    weight = (1 - distance).clamp_(min=0).mul_(pixel < end)
    return weight.div_(weight.sum(dim=2, keepdim=True))


def _mean_grey(row_stk: Tensor, columns_sxw: Tensor, share_st: Tensor) -> Tensor:
    """Return the mean grey of every source, 0 to 1, [S], from the mean of its rows, [S, frames, columns * 3]."""
    grey = numbers_on(GREY, row_stk.device) / 255
    weight = columns_sxw.mean(dim=1).unsqueeze(2) * grey
    grey_st = (row_stk.float() @ weight.view(len(weight), -1, 1)).squeeze(2)
    return (grey_st * share_st).sum(dim=1)


def _along_rows(matrix_sab: Tensor, colour_skc: Tensor, work: torch.dtype) -> Tensor:
    """Return the matrix on (pixel, colour) that applies one on pixels and one on colours, [S, a * 3, b * 3]."""
    sources, before, after = matrix_sab.shape
    both = matrix_sab.to(work)[:, :, None, :, None] * colour_skc.to(work)[:, None, :, None, :]
    return both.reshape(sources, before * 3, after * 3)


def _blurred(image: Tensor, sigma_s: Tensor, size: int, work: torch.dtype) -> Tensor:
    matrix = gaussian_matrices(sigma_s, size).to(work)
    sources = len(matrix)
    image = matrix @ image.view(sources, size, -1)
    same = torch.eye(3, dtype=work, device=image.device).unsqueeze(0)
    return image.view(sources, -1, size * 3) @ _along_rows(matrix.transpose(1, 2), same, work)


def gaussian_matrices(sigma_s: Tensor, size: int) -> Tensor:
    """Return the matrices that blur a column, float32 [S, size, size]: edges mirrored, cut off at 3 sigma.

    Every row sums to 1. A sigma of 0 gives the identity.
    """
    at = ramp(size, sigma_s.device)
    row, column = at.view(1, size, 1), at.view(1, 1, size)
    sigma = sigma_s.view(-1, 1, 1)
    radius = (3 * sigma).ceil_().clamp_(min=1, max=size - 1)
    sharpness = 0.5 / sigma.square().clamp_(min=1e-6)
    # A pixel is met directly, and once more in the mirror at either edge, which does not show the edge itself twice.
    left = torch.where(column > 0, column + row, 2 * size)
    right = torch.where(column < size - 1, 2 * (size - 1) - column - row, 2 * size)
    matrix = torch.zeros((), device=sigma_s.device)
    for distance in (row - column, left, right):
        matrix = matrix + (distance.square() * -sharpness).exp_().mul_(distance.abs() <= radius)
    return matrix.div_(matrix.sum(dim=2, keepdim=True))


def to_device(arrays: Mapping[str, Array], device: torch.device) -> dict[str, Tensor]:
    """Return arrays as tensors on a device, by a single copy that the host does not wait for."""
    sizes = [-(-array.nbytes // 16) * 16 for array in arrays.values()]
    packed = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=device.type == "cuda")
    buffer, start, places = packed.numpy(), 0, []
    for array, size in zip(arrays.values(), sizes, strict=True):
        buffer[start : start + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        places.append((start, start + array.nbytes))
        start += size
    there = packed.to(device, non_blocking=True)
    return {
        name: there[slice(*place)].view(_TYPES[array.dtype.name]).view(array.shape)
        for (name, array), place in zip(arrays.items(), places, strict=True)
    }


_TYPES = {"int32": torch.int32, "int64": torch.int64, "float32": torch.float32}


@functools.lru_cache(maxsize=16)
def numbers_on(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a few constants as float32 on a device."""
    return torch.tensor(values, device=device)


@functools.lru_cache(maxsize=16)
def ramp(count: int, device: torch.device) -> Tensor:
    """Return 0, 1, .. as float32 on a device."""
    return torch.arange(count, dtype=torch.float32, device=device)
