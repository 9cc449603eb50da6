"""The device's share of synthesis: resize, flip, colour, blur, blend, normalise (paper section 3.2, Eq. 3).

All numbers were drawn in the worker and are shipped; nothing is drawn here, so the result is a function of the
micro-batch. Plain torch, one draw per (video, role, view): all frames of a source get the same treatment. The
order is fixed: crop (worker), resize, flip, colour (brightness, contrast, saturation, hue, greyscale as one
affine map of RGB), clamp to [0, 1], blur, blend, normalise.

An accelerator is held up by the number of operators, so it renders all videos together (``batch_render.py``). A CPU
is held up by its memory: it renders one view at a time in a work space that stays in its caches, and resizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.synthesis.batch_render import GREY, gaussian_matrices, numbers_on, render_together, to_device
from pal_ds.data.synthesis.slot_layout import resized


# It restates fields of ``pal_ds.models.ViewBatch``, because data and models may not import each other
# (tests/layout/test_imports.py). They do not drift apart: mypy checks ``ViewBatch(**render(...))`` in training.
class Views(TypedDict):
    """What a model is given: the arguments of its ViewBatch.

    Attributes:
        query_bjcthw: [B, J, 3, T, H, W], normalised.
        key_bjcthw: likewise; None where ``synthesis.views`` is 1.
        query_region_b2: int64 [B, 2], (start, length) in clips.
        key_region_b2: likewise; None without a key.
        more_keys: clips and regions of every further key.
        labels_b: int64 [B], or None where the set has no labels.
        boundaries_b: int64 [B], or None where videos have no parts.
    """

    query_bjcthw: Tensor
    key_bjcthw: Tensor | None
    query_region_b2: Tensor
    key_region_b2: Tensor | None
    more_keys: tuple[tuple[Tensor, Tensor], ...]
    labels_b: Tensor | None
    boundaries_b: Tensor | None


@torch.no_grad()
def render(
    micro: MicroBatch,
    synthesis: SynthesisConfig,
    augment: AugmentConfig,
    dtype: torch.dtype = torch.float32,
) -> Views:
    """Make the synthetic views of every video of a micro-batch, on the device where its pixels are.

    The host never waits for the device. Views are channels-last in memory where an accelerator made them.

    Args:
        micro: what workers shipped.
        synthesis: geometry.
        augment: mean and standard deviation.
        dtype: of the views.
    """
    make = render_one_by_one if micro.device.type == "cpu" else render_together
    views = make(micro.groups, synthesis, augment, dtype)
    labels = micro.labels_b.numpy()
    boundaries = micro.boundaries_b
    parts = {} if boundaries is None else {"boundaries": boundaries.numpy()}
    numbers = to_device({"region": micro.regions_bv2.numpy(), "labels": labels, **parts}, micro.device)
    pairs = [(view, numbers["region"][:, number]) for number, view in enumerate(views)]
    return {
        "query_bjcthw": pairs[0][0],
        "key_bjcthw": pairs[1][0] if len(pairs) > 1 else None,
        "query_region_b2": pairs[0][1],
        "key_region_b2": pairs[1][1] if len(pairs) > 1 else None,
        "more_keys": tuple(pairs[2:]),
        "labels_b": numbers["labels"] if labels.min() >= 0 else None,
        "boundaries_b": numbers.get("boundaries"),
    }


def render_one_by_one(
    groups: tuple[Group, ...], synthesis: SynthesisConfig, augment: AugmentConfig, dtype: torch.dtype
) -> Tensor:
    """Return all views, normalised: ``dtype`` [V, B, J, 3, T, H, W], computed in float32."""
    device = groups[0].pixels.device
    clips, length, size = synthesis.view_clips, synthesis.clip_frames, synthesis.size
    shape = (synthesis.views, sum(map(len, groups)), clips, 3, length, size, size)
    views = torch.empty(shape, dtype=dtype, device=device)
    mean, std = (numbers_on(tuple(each), device).view(3, 1, 1, 1) for each in (augment.mean, augment.std))
    work = torch.empty(3, clips * length * 3 * size * size, device=device)
    sample = 0
    for group in groups:
        blurred = np.flatnonzero(group.blur)
        matrices = gaussian_matrices(torch.from_numpy(group.blur[blurred]), size)
        blurs = dict(zip(blurred.tolist(), matrices, strict=True))
        for video in range(len(group)):
            for number in range(synthesis.views):
                synthetic = _synthetic(group, video, number, blurs, synthesis, work)
                parts = synthetic.view(3, clips, length, size, size).transpose(0, 1)
                into = views[number, sample]
                if dtype == torch.float32:
                    torch.sub(parts, mean, out=into).div_(std)
                else:
                    into.copy_((parts - mean).div_(std))
            sample += 1
    return views


def _synthetic(
    group: Group, video: int, view: int, blurs: Mapping[int, Tensor], synthesis: SynthesisConfig, work: Tensor
) -> Tensor:
    """Return one synthetic video: float32 [3, J * T, H, W] in 0..1, in ``work``.

    Args:
        group: its group.
        video: the video whose region is pasted.
        view: 0 query, 1 and up keys.
        blurs: a matrix [H, H] for every source that is blurred, by its row.
        synthesis: geometry.
        work: three buffers of the size of a view.
    """
    size, length = synthesis.size, synthesis.clip_frames
    region = _source(group, group.row("region", video, view), size, blurs, work[0], work[2])
    if synthesis.paste == "none":
        return region
    background = group.row("background", int(group.pairs.numpy()[video, view]), view)
    synthetic = _source(group, background, size, blurs, work[1], work[2])
    start, count = (group.region.numpy()[video, view] * length).tolist()
    inside = slice(start, start + count)
    beta = group.beta[video, view].repeat_interleave(length)[inside]
    synthetic[:, inside].lerp_(region, beta.view(1, -1, 1, 1))
    return synthetic


def _source(
    group: Group, row: int, size: int, blurs: Mapping[int, Tensor], into: Tensor, spare: Tensor
) -> Tensor:
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
    grey = numbers_on(GREY, planar.device).view(1, 3) @ planar.mean(dim=1, keepdim=True)
    torch.addmm((group.contrast[row] * grey).expand(3, 1), group.colour[row], planar, out=mixed)
    mixed.clamp_(0, 1)
    if group.blur[row]:
        torch.matmul(blurs[row], mixed.view(-1, size, size), out=planar.view(-1, size, size))
        torch.mm(planar.view(-1, size), blurs[row].T, out=mixed.view(-1, size))
    return mixed.view(shape)


def views_dtype(precision: str, *, differences: bool, device: str) -> torch.dtype:
    """Return the type that views are written in: what the backbone would cast them to first of all.

    A CPU gets float32, since its convolutions may be taken out of autocast; so does a backbone that looks at
    differences of frames, which would mostly see rounding.

    Args:
        precision: of the run: fp32, bf16 or fp16.
        differences: whether the backbone sees differences of frames.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu" or differences:
        return torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
