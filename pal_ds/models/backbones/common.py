"""What the backbones share: the base class, channel scaling, weight initialisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pal_ds.models.layers.recompute import recomputed, through, wants_recompute

MIN_CHANNELS = 4


class Backbone(nn.Module, ABC):
    """A clip encoder: clips in, one vector per clip out.

    Attributes:
        feature_dim: size C of the output vectors.
        differences: see the differences of consecutive frames instead of the frames.
        recomputed_stages: in training, so many of the first :meth:`stages` keep their input alone and are run again
            in the backward pass.
    """

    feature_dim: int
    differences: bool = False
    recomputed_stages: int = 0

    @abstractmethod
    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume before pooling, [B, C, T', H', W']."""

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The network in parts that follow one another, cut where the volume between two parts is small.

        None by default: then ``model.recompute_stages`` is refused.
        """
        return ()

    def run_stage(self, number: int, x: Tensor, *arguments: Any) -> Tensor:
        """Run one of :meth:`stages`; each of its modules gets ``arguments`` behind the volume."""
        again = number < self.recomputed_stages and wants_recompute(self)
        return (recomputed if again else through)(self.stages()[number], x, *arguments)

    def forward(self, clips_bcthw: Tensor) -> Tensor:
        """Encode clips.

        Args:
            clips_bcthw: float [B, 3, T, H, W], normalised; T = 8 and H = W = 112 in the paper.

        Returns:
            [B, feature_dim], the average of the feature volume over time and space.
        """
        if self.differences:
            clips_bcthw = frame_differences(clips_bcthw)
        pooled: Tensor = self.volume(clips_bcthw).mean(dim=(2, 3, 4))
        return pooled


def frame_differences(clips_bcthw: Tensor) -> Tensor:
    """Return each frame less the one before it, same shape; the first difference stands at the first frame too.

    What a scene looks like cancels out, what moves in it stays (RGB difference: Wang et al., TSN, ECCV 2016).
    """
    if clips_bcthw.requires_grad:
        moved_bcthw = clips_bcthw[:, :, 1:] - clips_bcthw[:, :, :-1]
        return torch.cat((moved_bcthw[:, :, :1], moved_bcthw), dim=2)
    # Written in place: on a CPU the copy of a concatenation costs as much as the differences.
    found_bcthw = torch.empty_like(clips_bcthw)
    torch.sub(clips_bcthw[:, :, 1:], clips_bcthw[:, :, :-1], out=found_bcthw[:, :, 1:])
    found_bcthw[:, :, 0] = found_bcthw[:, :, 1]
    return found_bcthw


def scaled(channels: int, width: float) -> int:
    """Channel count at a width factor, rounded, at least ``MIN_CHANNELS`` (exact at width 1)."""
    return max(MIN_CHANNELS, round(channels * width))


def initialise(module: nn.Module, *, bn_momentum: float) -> None:
    """He initialisation of convolutions, identity BatchNorm, and BatchNorm's running momentum."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.momentum = bn_momentum
