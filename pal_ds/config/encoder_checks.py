"""Which options and which clips an encoder of ``transformers`` can have; its config says (``config/encoders.py``)."""

from __future__ import annotations

from typing import Any

from pal_ds.config.base import check
from pal_ds.config.encoders import CONFIG_NAME, POOLINGS, Encoder, encoder_of, pooled_layer


def check_encoder_options(model: Any) -> None:
    """Refuse options that the chosen encoder can't have.

    Args:
        model: the ``model`` section, its ``encoder`` filled in.

    Raises:
        ConfigError: naming the option, its value and the fix.
    """
    encoder = encoder_of(model.encoder)
    layers = encoder.layers
    check_pooling(model.pooling, encoder)
    check(model.width == 1, "model.width", model.width, "an encoder of transformers has one width; remove it")
    check(
        model.bn_momentum == 0.1, "model.bn_momentum", model.bn_momentum, "there is no BatchNorm; remove it"
    )
    check(
        not model.compile,
        "model.compile",
        model.compile,
        "is not supported for encoders of transformers; remove it",
    )
    check(0 <= model.drop_path < 1, "model.drop_path", model.drop_path, "use a share from 0 to below 1")
    check(
        0 <= model.frozen_stages <= layers + 1,
        "model.frozen_stages",
        model.frozen_stages,
        f"use 0 (nothing), 1 (patches and positions) up to {layers + 1} (these and all {layers} blocks)",
    )
    check(model.lora_rank >= 0, "model.lora_rank", model.lora_rank, "use 0 (off) or a rank, e.g. 8")
    check(
        model.lora_alpha >= 0, "model.lora_alpha", model.lora_alpha, "use 0 (as the rank) or a value above it"
    )
    check(
        model.lora_layers in ("attention", "all"),
        "model.lora_layers",
        model.lora_layers,
        "use attention or all",
    )
    for name, default in (("lora_alpha", 0.0), ("lora_layers", "attention")):
        value = getattr(model, name)
        check(
            model.lora_rank > 0 or value == default,
            f"model.{name}",
            value,
            "has no effect without model.lora_rank",
        )
    check(
        not (model.lora_rank and model.frozen_stages),
        "model.frozen_stages",
        model.frozen_stages,
        "has no effect with model.lora_rank, which freezes all of the encoder; remove it",
    )
    check(
        not (model.recompute_stages and encoder.dropout),
        "model.recompute_stages",
        model.recompute_stages,
        f"a block that is run again would drop other values: set the dropout in the encoder's {CONFIG_NAME} to 0",
    )


def check_pooling(pooling: str, encoder: Encoder) -> None:
    """Refuse a pooling that an encoder has no tokens or blocks for.

    Raises:
        ConfigError: naming what it can have.
    """
    layer = pooled_layer(pooling)
    check(
        pooling in POOLINGS or layer is not None,
        "model.pooling",
        pooling,
        f"use one of {', '.join(POOLINGS)} or layer:K",
    )
    check(
        layer is None or 1 <= layer <= encoder.layers,
        "model.pooling",
        pooling,
        f"{encoder.kind} has the layers 1 to {encoder.layers}",
    )
    check(
        pooling != "cls" or encoder.family.cls,
        "model.pooling",
        pooling,
        f"{encoder.kind} has no class token; use mean",
    )
    check(
        pooling != "last4" or encoder.layers >= 4,
        "model.pooling",
        pooling,
        "there are no four layers; use mean",
    )


def check_input(encoder: Encoder, frames: int, size: int, prefix: str = "synthesis.") -> None:
    """Refuse clips that an encoder can't take.

    Args:
        encoder: the encoder.
        frames: of a clip.
        size: height and width in pixels.
        prefix: of the options' names in messages.

    Raises:
        ConfigError: naming the value that it takes.
    """
    family, kind = encoder.family, encoder.kind
    name = f"{prefix}clip_frames"
    if family.video and family.fixed_frames:
        check(
            frames == encoder.frames,
            name,
            frames,
            f"{kind} takes clips of {encoder.frames} frames; set {name}={encoder.frames}",
        )
    fitting = max(1, round(frames / encoder.tubelet)) * encoder.tubelet
    check(
        frames == fitting,
        name,
        frames,
        f"{kind} joins {encoder.tubelet} frames to a patch; set {name}={fitting}",
    )
    name = f"{prefix}size"
    if family.fixed_size:
        check(
            size == encoder.size,
            name,
            size,
            f"{kind} takes frames of {encoder.size} pixels; set {name}={encoder.size}",
        )
    fitting = max(1, round(size / encoder.patch)) * encoder.patch
    check(
        size == fitting,
        name,
        size,
        f"{kind} cuts frames into patches of {encoder.patch} pixels; set {name}={fitting}",
    )


def check_colours(encoder: Encoder, name: str, given: list[float], default: list[float]) -> list[float]:
    """Return the encoder's mean or deviation of colours where the config has the default or the same.

    Args:
        encoder: the encoder.
        name: ``mean`` or ``std``.
        given: what the config says.
        default: what it says where nobody said anything.

    Raises:
        ConfigError: the config says something else.
    """
    wanted = list(getattr(encoder, name))
    check(
        given in (default, wanted),
        f"augment.{name}",
        given,
        f"{encoder.kind} was made with {wanted}; remove it, and that is taken",
    )
    return wanted
