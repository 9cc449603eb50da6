"""Low-rank adapters (Hu et al., 2021) by ``peft``: beside frozen linear layers, small ones that are trained."""

from __future__ import annotations

from torch import nn

from pal_ds.config.base import ConfigError
from pal_ds.models.backbones.vit.encoder import TransformerEncoder

#: What ``peft`` puts between a linear layer's name and that of its weight.
BASE = ".base_layer."
MARK = ".lora_"


def add_adapters(backbone: TransformerEncoder, *, rank: int, alpha: float, layers: str) -> None:
    """Freeze an encoder and give its blocks adapters; their product starts at 0, so that no feature changes.

    Args:
        backbone: changed in place; a pooling with weights of its own stays trained.
        rank: of the adapters.
        alpha: scale of their product, which is divided by the rank; 0: the rank.
        layers: ``attention`` or ``all`` linear layers of the blocks.

    Raises:
        ConfigError: ``peft`` is missing.
    """
    try:
        import peft
    except ImportError as error:
        raise ConfigError("model.lora_rank", rank, "needs a package: pip install 'pal-ds[hf]'") from error
    names = [
        f"blocks.{name}"
        for name, module in backbone.blocks.named_modules()
        if isinstance(module, nn.Linear) and (layers == "all" or "att" in name)
    ]
    options = peft.LoraConfig(r=rank, lora_alpha=alpha or rank, lora_dropout=0.0, target_modules=names)
    trained = list(backbone.pool.parameters())
    peft.inject_adapter_in_model(options, backbone)
    for parameter in trained:
        parameter.requires_grad_(True)


def base_name(name: str, own: set[str]) -> str:
    """Return the name that a plain encoder's tensor has beside adapters.

    Args:
        name: in an encoder without adapters.
        own: names of the encoder at hand.
    """
    if name in own:
        return name
    stem, _, leaf = name.rpartition(".")
    return f"{stem}{BASE}{leaf}" if f"{stem}{BASE}{leaf}" in own else name


def is_adapter(name: str) -> bool:
    """Whether a tensor belongs to an adapter."""
    return MARK in name
