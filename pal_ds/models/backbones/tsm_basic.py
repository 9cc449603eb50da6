"""TSM-ResNet-18 (Lin et al., 2019): a 2D ResNet-18 per frame that shifts channels along time; LoFi's encoder.

Module names are torchvision's of the 2D ResNet-18, so ImageNet weights load strictly.
"""

from __future__ import annotations

from torch import Tensor, nn

from pal_ds.models.backbones.tsm import SHIFT_SHARE, ShiftResNet, temporal_shift


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


class TsmResNet18(ShiftResNet):
    """TSM-ResNet-18 without its classifier: 11.18 M parameters at width 1.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    block = ShiftBasicBlock
    expansion = 1
    counts = (2, 2, 2, 2)
    #: A shift takes an eighth of the channels each way: below eight none would move.
    least_channels = SHIFT_SHARE
