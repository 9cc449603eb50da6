"""A backbone in one file, and the real command: ``own_backbone.py … model.backbone=two_convolutions``."""

from __future__ import annotations

import sys

from torch import Tensor, nn

from pal_ds.config.backbones import BACKBONES
from pal_ds.config.registry import Choice
from pal_ds.models.backbones.common import Backbone, initialise


class TwoConvolutions(Backbone):
    """Clips [B, 3, T, H, W] in; the base class averages the volume to [B, feature_dim]."""

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__()
        self.feature_dim = max(8, round(64 * width))
        self.layers = nn.Sequential(
            nn.Conv3d(3, self.feature_dim, 3, stride=(1, 2, 2), padding=1, bias=False),
            nn.BatchNorm3d(self.feature_dim),
            nn.ReLU(),
            nn.Conv3d(self.feature_dim, self.feature_dim, 3, stride=2, padding=1),
        )
        initialise(self, bn_momentum=bn_momentum)

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, C, T / 2, H / 4, W / 4]."""
        volume: Tensor = self.layers(clips_bcthw)
        return volume


BACKBONES.add(Choice(name="two_convolutions", build=f"{__name__}:TwoConvolutions"))

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main

    sys.exit(main())
