"""TSM-ResNet-50 (Lin et al., 2019): a 2D ResNet-50 per frame that shifts channels along time.

Module names are torchvision's of the 2D ResNet-50, so ImageNet weights load strictly; published TSM files
have a ``.net.`` infix that the warm start removes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pal_ds.models.backbones.common import Backbone, initialise, scaled
from pal_ds.models.layers.light_pool import LightMaxPool2d

EXPANSION = 4
PLANES = (64, 128, 256, 512)
SHIFT_SHARE = 8


def temporal_shift(x_nchw: Tensor, frames: int) -> Tensor:
    """Shift an eighth of the channels one frame back and an eighth one frame ahead, zeros at the ends.

    Args:
        x_nchw: [B * frames, C, H, W], frames of a clip adjacent.
        frames: T.
    """
    x_btchw = x_nchw.view(-1, frames, *x_nchw.shape[1:])
    fold = x_nchw.shape[1] // SHIFT_SHARE
    shifted = torch.zeros_like(x_btchw)
    shifted[:, :-1, :fold] = x_btchw[:, 1:, :fold]
    shifted[:, 1:, fold : 2 * fold] = x_btchw[:, :-1, fold : 2 * fold]
    shifted[:, :, 2 * fold :] = x_btchw[:, :, 2 * fold :]
    return shifted.flatten(0, 1)


class ShiftBottleneck(nn.Module):
    """A 2D bottleneck whose residual branch starts with a temporal shift."""

    def __init__(self, in_channels: int, planes: int, *, stride: int) -> None:
        super().__init__()
        out_channels = planes * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
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
        hidden = self.relu(self.bn2(self.conv2(hidden)))
        out: Tensor = self.relu(self.bn3(self.conv3(hidden)) + shortcut)
        return out


class ShiftResNet(Backbone):
    """A 2D ResNet per frame whose residual branches begin with a temporal shift, without its classifier.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    block: ClassVar[Callable[..., nn.Module]]
    expansion: ClassVar[int]
    counts: ClassVar[tuple[int, ...]]
    least_channels: ClassVar[int] = 1

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__()
        channels = max(self.least_channels, scaled(PLANES[0], width))
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = LightMaxPool2d(3, 2, 1)
        for number, (count, published) in enumerate(zip(self.counts, PLANES, strict=True), start=1):
            planes = max(self.least_channels, scaled(published, width))
            blocks = nn.ModuleList()
            for position in range(count):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(type(self).block(channels, planes, stride=stride))
                channels = planes * self.expansion
            self.add_module(f"layer{number}", blocks)
        self.feature_dim = channels
        initialise(self, bn_momentum=bn_momentum)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The stem, and every residual block."""
        layers = [self.get_submodule(f"layer{number}") for number in range(1, len(self.counts) + 1)]
        blocks = [[block] for layer in layers for block in layer.children()]
        return [[self.conv1, self.bn1, self.relu, self.maxpool], *blocks]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T, H/32, W/32]."""
        frames = clips_bcthw.shape[2]
        x_nchw = clips_bcthw.transpose(1, 2).flatten(0, 1)
        x_nchw = self.run_stage(0, x_nchw)
        for number in range(1, len(self.stages())):
            x_nchw = self.run_stage(number, x_nchw, frames)
        volume_btchw: Tensor = x_nchw.view(-1, frames, *x_nchw.shape[1:])
        return volume_btchw.transpose(1, 2)


class TsmResNet50(ShiftResNet):
    """TSM-ResNet-50 without its classifier: 23.51 M parameters at width 1.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    block = ShiftBottleneck
    expansion = EXPANSION
    counts = (3, 4, 6, 3)
