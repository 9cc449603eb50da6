"""What the backbones share: the base class, channel scaling, weight initialisation."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

MIN_CHANNELS = 4


class Backbone(nn.Module, ABC):
    """A clip encoder: clips in, one vector per clip out.

    Attributes:
        feature_dim: size C of the output vectors.
        differences: see the differences of consecutive frames instead of the frames.
    """

    feature_dim: int
    differences: bool = False

    @abstractmethod
    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume before pooling, [B, C, T', H', W']."""

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
    moved_bcthw = clips_bcthw[:, :, 1:] - clips_bcthw[:, :, :-1]
    return torch.cat((moved_bcthw[:, :, :1], moved_bcthw), dim=2)


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
