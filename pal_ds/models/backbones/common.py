"""What the backbones share: the base class, channel scaling, weight initialisation."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

MIN_CHANNELS = 4


class Backbone(nn.Module, ABC):
    """A clip encoder: clips in, one vector per clip out.

    Attributes:
        feature_dim: size C of the output vectors.
    """

    feature_dim: int

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
        pooled: Tensor = self.volume(clips_bcthw).mean(dim=(2, 3, 4))
        return pooled


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
