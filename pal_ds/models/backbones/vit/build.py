"""From an encoder's config and a run's options to a backbone."""

from __future__ import annotations

from pal_ds.config.encoders import encoder_of
from pal_ds.models.backbones.vit.encoder import RotaryEncoder, TransformerEncoder
from pal_ds.models.backbones.vit.library import build_network
from pal_ds.models.backbones.vit.lora import add_adapters
from pal_ds.models.backbones.vit.parts import take_apart


def build_encoder(
    *,
    encoder: str,
    pooling: str = "mean",
    lora_rank: int = 0,
    lora_alpha: float = 0.0,
    lora_layers: str = "attention",
) -> TransformerEncoder:
    """Build an encoder of ``transformers`` with random weights.

    Args:
        encoder: the line that describes it, see :class:`pal_ds.config.encoders.Encoder`.
        pooling: how tokens become a feature, see :class:`TransformerEncoder`.
        lora_rank: rank of adapters; 0 is none.
        lora_alpha: scale of the adapters; 0: the rank.
        lora_layers: which linear layers have them.

    Raises:
        ConfigError: ``transformers`` or ``peft`` is missing, or refuses the config.
    """
    found = encoder_of(encoder)
    kind = RotaryEncoder if found.kind == "vjepa2" else TransformerEncoder
    backbone = kind(found, take_apart(build_network(found), found), pooling)
    if lora_rank:
        add_adapters(backbone, rank=lora_rank, alpha=lora_alpha, layers=lora_layers)
    return backbone
