"""Clip encoders by name: every one maps [B, 3, T, H, W] to [B, feature_dim]."""

from __future__ import annotations

from typing import Any

from pal_ds.config.backbones import BACKBONES
from pal_ds.config.base import ConfigError
from pal_ds.config.encoders import names_encoder
from pal_ds.config.model import ModelConfig
from pal_ds.models.backbones.common import Backbone
from pal_ds.models.backbones.vit.encoder import TransformerEncoder


def build_backbone(
    name: str, *, width: float = 1.0, bn_momentum: float = 0.1, differences: bool = False, **options: Any
) -> Backbone:
    """Build a backbone with random weights.

    Args:
        name: one of ``pal_ds.config.backbones.BACKBONES``; or ``hf:`` and anything, with the option ``encoder``.
        width: factor on every channel count, above 0.
        bn_momentum: share of the newest batch in BatchNorm's running statistics.
        differences: see the differences of consecutive frames instead of the frames.
        options: further options of that backbone (``same_padding`` of i3d).

    Returns:
        A module with attribute ``feature_dim``: clips [B, 3, 8, 112, 112] in, [B, feature_dim] out.

    Raises:
        ValueError: unknown name or option, or a width at or below 0.
    """
    if name not in BACKBONES and not names_encoder(name):
        raise ValueError(f"backbone = {name!r}: use one of {', '.join(BACKBONES)}")
    if width <= 0:
        raise ValueError(f"width = {width!r}: use a factor above 0")
    # Encoders of transformers have one width, and no BatchNorm.
    shape = {} if names_encoder(name) else {"width": width, "bn_momentum": bn_momentum}
    try:
        backbone: Backbone = BACKBONES.choose(name).load()(**shape, **options)
    except TypeError as error:
        raise ValueError(f"backbone {name!r} does not take these options: {sorted(options)}") from error
    backbone.differences = differences
    return backbone


def backbone_of(model: ModelConfig) -> Backbone:
    """Build the backbone that a run's options describe, with random weights.

    Raises:
        ConfigError: more stages to recompute than it has.
    """
    backbone = build_backbone(
        model.backbone, width=model.width, bn_momentum=model.bn_momentum, **model.backbone_options()
    )
    stages = len(backbone.stages())
    if model.recompute_stages > stages:
        raise ConfigError(
            "model.recompute_stages",
            model.recompute_stages,
            f"{model.backbone} has {stages} stages; use at most {stages}",
        )
    backbone.recomputed_stages = model.recompute_stages
    if isinstance(backbone, TransformerEncoder):
        backbone.prepare(drop_path=model.drop_path, frozen_stages=model.frozen_stages)
    return backbone
