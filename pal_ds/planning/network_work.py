"""What a backbone asks of a machine, counted on the network itself; nothing is computed and no memory is taken."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from pal_ds.config.model import ModelConfig

if TYPE_CHECKING:
    from torch import nn

#: Memory traffic of a clip's query and key passes in bf16 without fusion, MB, where it has been worked out.
_MOVED_MB = {"i3d": 173.0}
_CLIP = (1, 3, 8, 112, 112)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A backbone's work for one clip of 8 x 112 x 112.

    Attributes:
        forward_gflop: one forward pass; a multiply-add is two.
        train_gflop: forward and backward; the input needs no gradient.
        parameters: trained numbers.
        norms: BatchNorm layers; each has three collectives a micro-step.
        moved_mb: memory traffic of a clip's query and key passes in bf16 without fusion; 0 where not known.
    """

    forward_gflop: float
    train_gflop: float
    parameters: float
    norms: int
    moved_mb: float = 0.0


@functools.cache
def count_work(backbone: str) -> Network:
    """Count a backbone's work at its published width by ``torch.utils.flop_counter``, on torch's meta device.

    Args:
        backbone: one of ``pal_ds.config.backbones.BACKBONES``.

    Raises:
        ValueError: there is none of that name.
    """
    import torch

    from pal_ds.models.backbones import build_backbone

    with torch.device("meta"):
        network = build_backbone(backbone)
    return _counted(network, _CLIP, moved_mb=_MOVED_MB.get(backbone, 0.0))


@functools.lru_cache(maxsize=32)
def count_encoder_work(model: ModelConfig, frames: int, size: int) -> Network:
    """Count the work of an encoder of ``transformers`` for one clip of its own shape, as it is trained.

    Args:
        model: the encoder, what is frozen and what is recomputed (which is run again, and counted again).
        frames: T.
        size: H and W.
    """
    import torch

    from pal_ds.models.backbones import backbone_of

    with torch.device("meta"):
        network = backbone_of(model)
    return _counted(network, (1, 3, frames, size, size))


def _counted(network: nn.Module, shape: tuple[int, ...], *, moved_mb: float = 0.0) -> Network:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    clip = torch.empty(shape, device="meta")
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(clip)
    with FlopCounterMode(display=False) as training:
        network(clip).sum().backward()
    return Network(
        forward_gflop=forward.get_total_flops() / 1e9,
        train_gflop=training.get_total_flops() / 1e9,
        parameters=float(sum(value.numel() for value in network.parameters() if value.requires_grad)),
        norms=sum("BatchNorm" in type(layer).__name__ for layer in network.modules()),
        moved_mb=moved_mb,
    )
