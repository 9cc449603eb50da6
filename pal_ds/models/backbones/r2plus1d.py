"""R(2+1)D (Tran et al., 2018): ResNets whose 3D convolutions are split into space and time.

Module names follow torchvision's ``r2plus1d_18`` and, with 34 layers, the PyTorch port of IG-65M's network
(``r2plus1d_34``), so published weights load strictly.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pal_ds.models.backbones.common import Backbone, initialise, scaled

STEM_MID_CHANNELS = 45
PLANES = (64, 128, 256, 512)
#: BatchNorm's epsilon in the network of 34 layers, as it was trained in Caffe2.
DEEP_EPS = 1e-3


def middle(in_channels: int, out_channels: int) -> int:
    """Return the middle width that gives a split pair as many parameters as a full 3 x 3 x 3 convolution."""
    return (in_channels * out_channels * 27) // (in_channels * 9 + 3 * out_channels)


class Conv2Plus1d(nn.Sequential):
    """A 1 x 3 x 3 convolution, BatchNorm, ReLU and a 3 x 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(in_channels, mid_channels, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(mid_channels, out_channels, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class ResidualBlock(nn.Module):
    """Two factorised convolutions with a shortcut.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution, in time and space.
        own_middle: compute the middle width of the second convolution from its own channels, as Caffe2 does;
            torchvision takes the first one's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, own_middle: bool = False) -> None:
        super().__init__()
        mid = middle(in_channels, out_channels)
        second = middle(out_channels, out_channels) if own_middle else mid
        self.conv1 = nn.Sequential(
            Conv2Plus1d(in_channels, out_channels, mid, stride),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(
            Conv2Plus1d(out_channels, out_channels, second), nn.BatchNorm3d(out_channels)
        )
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm3d(out_channels)
            )

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Apply the block."""
        shortcut = x_bcthw if self.downsample is None else self.downsample(x_bcthw)
        out: Tensor = self.relu(self.conv2(self.conv1(x_bcthw)) + shortcut)
        return out


class R2Plus1d18(Backbone):
    """R(2+1)D-18 without its classifier: 31.30 M parameters at width 1.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    own_middle = False

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__()
        mid, channels = scaled(STEM_MID_CHANNELS, width), scaled(64, width)
        self.stem = nn.Sequential(
            nn.Conv3d(3, mid, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(mid),
            nn.ReLU(inplace=True),
            nn.Conv3d(mid, channels, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
        )
        for number, (count, planes) in enumerate(zip(self.blocks, PLANES, strict=True), start=1):
            out_channels = scaled(planes, width)
            blocks = []
            for position in range(count):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(ResidualBlock(channels, out_channels, stride, own_middle=self.own_middle))
                channels = out_channels
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.feature_dim = channels
        initialise(self, bn_momentum=bn_momentum)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The stem, and every residual block."""
        layers = list(self.children())[1:]
        return [[self.stem], *([block] for layer in layers for block in layer.children())]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T/8, H/16, W/16]."""
        x_bcthw = clips_bcthw
        for number in range(len(self.stages())):
            x_bcthw = self.run_stage(number, x_bcthw)
        return x_bcthw


class R2Plus1d34(R2Plus1d18):
    """R(2+1)D-34 without its classifier: 63.49 M parameters at width 1; TSP's encoder.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    blocks = (3, 4, 6, 3)
    own_middle = True

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__(width=width, bn_momentum=bn_momentum)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm3d):
                layer.eps = DEEP_EPS
