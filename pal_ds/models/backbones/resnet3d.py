"""3D-ResNet-50 of the self-supervised video literature: SlowFast's slow pathway (Feichtenhofer et al., 2019).

Temporal kernels of 3 in the last two stages, none before, time never strided. Module names are torchvision's
of the 2D ResNet-50.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pal_ds.models.backbones.common import Backbone, initialise, scaled
from pal_ds.models.layers.light_pool import LightMaxPool3d

EXPANSION = 4
# (blocks, planes, temporal kernel of the first convolution of each block) of the four stages.
STAGES = ((3, 64, 1), (4, 128, 1), (6, 256, 3), (3, 512, 3))


class Bottleneck3d(nn.Module):
    """k x 1 x 1, 1 x 3 x 3, 1 x 1 x 1 with a shortcut; the stride is in the middle."""

    def __init__(self, in_channels: int, planes: int, *, temporal_kernel: int, stride: int) -> None:
        super().__init__()
        out_channels = planes * EXPANSION
        kernel, padding = (temporal_kernel, 1, 1), (temporal_kernel // 2, 0, 0)
        self.conv1 = nn.Conv3d(in_channels, planes, kernel, padding=padding, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, (1, stride, stride), bias=False),
                nn.BatchNorm3d(out_channels),
            )

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Apply the block; time keeps its size."""
        shortcut = x_bcthw if self.downsample is None else self.downsample(x_bcthw)
        hidden = self.relu(self.bn1(self.conv1(x_bcthw)))
        hidden = self.relu(self.bn2(self.conv2(hidden)))
        out: Tensor = self.relu(self.bn3(self.conv3(hidden)) + shortcut)
        return out


class ResNet3d50(Backbone):
    """Slow-only ResNet-50 without its classifier: 31.63 M parameters at width 1.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__()
        channels = scaled(64, width)
        self.conv1 = nn.Conv3d(3, channels, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = LightMaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        for number, (count, published, temporal_kernel) in enumerate(STAGES, start=1):
            planes = scaled(published, width)
            blocks = []
            for position in range(count):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(Bottleneck3d(channels, planes, temporal_kernel=temporal_kernel, stride=stride))
                channels = planes * EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.feature_dim = channels
        initialise(self, bn_momentum=bn_momentum)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The stem, and every residual block."""
        stem, layers = list(self.children())[:4], list(self.children())[4:]
        return [stem, *([block] for layer in layers for block in layer.children())]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T, H/32, W/32]."""
        x_bcthw = clips_bcthw
        for number in range(len(self.stages())):
            x_bcthw = self.run_stage(number, x_bcthw)
        return x_bcthw
