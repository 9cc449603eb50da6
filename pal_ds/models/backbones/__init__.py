"""Clip encoders by name: every one maps [B, 3, T, H, W] to [B, feature_dim]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pal_ds.config.base import ConfigError
from pal_ds.config.model import ModelConfig
from pal_ds.models.backbones.common import Backbone
from pal_ds.models.backbones.i3d import InceptionI3d
from pal_ds.models.backbones.r2plus1d import R2Plus1d18
from pal_ds.models.backbones.resnet3d import ResNet3d50
from pal_ds.models.backbones.s3d import S3d
from pal_ds.models.backbones.tsm import TsmResNet50
from pal_ds.models.backbones.tsm_small import TsmResNet8

_BUILDERS: dict[str, Callable[..., Backbone]] = {
    "i3d": InceptionI3d,
    "resnet3d50": ResNet3d50,
    "r2plus1d18": R2Plus1d18,
    "s3d": S3d,
    "tsm_resnet50": TsmResNet50,
    "tsm_resnet8": TsmResNet8,
}


def build_backbone(
    name: str, *, width: float = 1.0, bn_momentum: float = 0.1, differences: bool = False, **options: Any
) -> Backbone:
    """Build a backbone with random weights (DESIGN.md §3.7).

    Args:
        name: one of ``pal_ds.config.model.BACKBONES``.
        width: factor on every channel count, above 0.
        bn_momentum: share of the newest batch in BatchNorm's running statistics.
        differences: see the differences of consecutive frames instead of the frames.
        options: further options of that backbone (``same_padding`` of i3d).

    Returns:
        A module with attribute ``feature_dim``: clips [B, 3, 8, 112, 112] in, [B, feature_dim] out.

    Raises:
        ValueError: unknown name or option, or a width at or below 0.
    """
    if name not in _BUILDERS:
        raise ValueError(f"backbone = {name!r}: use one of {', '.join(_BUILDERS)}")
    if width <= 0:
        raise ValueError(f"width = {width!r}: use a factor above 0")
    try:
        backbone = _BUILDERS[name](width=width, bn_momentum=bn_momentum, **options)
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
    return backbone
