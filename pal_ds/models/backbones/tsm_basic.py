"""TSM-ResNet-18 (Lin et al., 2019): a 2D ResNet-18 per frame that shifts channels along time; LoFi's encoder.

Module names are torchvision's of the 2D ResNet-18, so ImageNet weights load strictly.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pal_ds.models.backbones.common import Backbone, initialise, scaled
from pal_ds.models.backbones.tsm import temporal_shift
from pal_ds.models.layers.light_pool import LightMaxPool2d

STAGES = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


class ShiftBasicBlock(nn.Module):
    """Two 3 x 3 convolutions, the first after a temporal shift, beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x_nchw: Tensor, frames: int) -> Tensor:
        """Apply the block to [B * frames, C, H, W]."""
        shortcut = x_nchw if self.downsample is None else self.downsample(x_nchw)
        hidden = self.relu(self.bn1(self.conv1(temporal_shift(x_nchw, frames))))
        out: Tensor = self.relu(self.bn2(self.conv2(hidden)) + shortcut)
        return out


class TsmResNet18(Backbone):
    """TSM-ResNet-18 without its classifier: 11.18 M parameters at width 1.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__()
        # A shift takes an eighth of the channels each way: below eight none would move.
        channels = max(8, scaled(64, width))
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = LightMaxPool2d(3, 2, 1)
        for number, published in enumerate(STAGES, start=1):
            planes = max(8, scaled(published, width))
            blocks = nn.ModuleList()
            for position in range(BLOCKS_PER_STAGE):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(ShiftBasicBlock(channels, planes, stride=stride))
                channels = planes
            self.add_module(f"layer{number}", blocks)
        self.feature_dim = channels
        initialise(self, bn_momentum=bn_momentum)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The stem, and every residual block."""
        blocks = [module for module in self.modules() if isinstance(module, ShiftBasicBlock)]
        return [[self.conv1, self.bn1, self.relu, self.maxpool], *([block] for block in blocks)]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T, H/32, W/32]."""
        frames = clips_bcthw.shape[2]
        x_nchw = clips_bcthw.transpose(1, 2).flatten(0, 1)
        x_nchw = self.run_stage(0, x_nchw)
        for number in range(1, len(self.stages())):
            x_nchw = self.run_stage(number, x_nchw, frames)
        volume_btchw: Tensor = x_nchw.view(-1, frames, *x_nchw.shape[1:])
        return volume_btchw.transpose(1, 2)
