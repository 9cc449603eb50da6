"""Encoders for the extraction tests: a small transformer beside the shipped backbones, and what is known of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.extraction.small_vit import CHOICE
from pal_ds.config.backbones import BACKBONES
from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.models import build_backbone
from pal_ds.models.backbones.common import Backbone
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.readouts import parse_readouts

SIZE = 32


@contextlib.contextmanager
def small_vit_known() -> Iterator[None]:
    """Within it, ``small_vit`` is a backbone like any other."""
    BACKBONES.add(CHOICE)
    try:
        yield
    finally:
        BACKBONES.remove(CHOICE.name)


def random_network(name: str, *, width: float = 0.125, seed: int = 0) -> Backbone:
    with small_vit_known() if name == CHOICE.name else contextlib.nullcontext():
        torch.manual_seed(seed)
        return build_backbone(name, width=width).eval().requires_grad_(False)


def encoder_of(
    backbone: Backbone, *, size: int = SIZE, layers: tuple[str, ...] = (), **more: Any
) -> ClipEncoder:
    spec = BackboneSpec(
        backbone="any",
        width=1.0,
        feature_dim=backbone.feature_dim,
        clip_frames=8,
        size=size,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        options={},
        digest="0" * 64,
        source="test",
    )
    return ClipEncoder(backbone, spec, readouts=parse_readouts(layers), **more)


def moving_clips(count: int, *, frames: int = 8, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """Coarse patterns that wander at different speeds, uint8 [count, frames, 1, 3, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, size=2 * size, mode="bilinear")
    clips = []
    for number, picture in enumerate(wide):
        moved = [picture.roll(number % 5 * frame, 2)[:, :size, :size] for frame in range(frames)]
        clips.append(torch.stack(moved))
    return (torch.stack(clips) * 255).to(torch.uint8)[:, :, None]
