"""S3D and S3D-G (Xie et al., 2018): Inception-I3D with separable 3D convolutions, without and with gating.

Module names follow torchvision's ``s3d``, so its published weights load strictly; S3D-G has its gates beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pal_ds.models.backbones.common import Backbone, initialise, scaled
from pal_ds.models.backbones.i3d import MIXED_CHANNELS
from pal_ds.models.layers.light_pool import LightMaxPool3d

BN_EPS = 1e-3


class ConvUnit(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int] = (1, 1, 1),
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        super().__init__(
            nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False),
            nn.BatchNorm3d(out_channels, eps=BN_EPS),
            nn.ReLU(inplace=True),
        )


class SeparableUnit(nn.Sequential):
    """Space, then time, each with BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            ConvUnit(in_channels, out_channels, (1, kernel, kernel), (1, stride, stride)),
            ConvUnit(out_channels, out_channels, (kernel, 1, 1), (stride, 1, 1)),
        )


class GatedUnit(SeparableUnit):
    """The separable convolution before the first block, with a gate behind it; keys are those of the plain one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)
        self.append(Gate(out_channels))


class Gate(nn.Module):
    """Self-gating: each channel times the sigmoid of a linear map of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Weigh the channels of [B, C, T, H, W]."""
        weight_bc = torch.sigmoid(self.fc(x_bcthw.mean(dim=(2, 3, 4))))
        return x_bcthw * weight_bc[:, :, None, None, None]


class SeparableInceptionBlock(nn.Module):
    """The Inception block with separable convolutions in its wide branches, and a gate at each branch's end."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], *, gated: bool = False) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.branch0 = ConvUnit(in_channels, b0)
        self.branch1 = nn.Sequential(ConvUnit(in_channels, b1a), SeparableUnit(b1a, b1b, 3))
        self.branch2 = nn.Sequential(ConvUnit(in_channels, b2a), SeparableUnit(b2a, b2b, 3))
        self.branch3 = nn.Sequential(
            LightMaxPool3d((3, 3, 3), (1, 1, 1), (1, 1, 1)), ConvUnit(in_channels, b3b)
        )
        self.out_channels = b0 + b1b + b2b + b3b
        self.gates = nn.ModuleList([Gate(count) for count in (b0, b1b, b2b, b3b)]) if gated else None

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Apply the block; time and space keep their size."""
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        outs = [branch(x_bcthw) for branch in branches]
        if self.gates is not None:
            outs = [gate(out) for gate, out in zip(self.gates, outs, strict=True)]
        return torch.cat(outs, dim=1)


class S3d(Backbone):
    """S3D without its classifier: 7.91 M parameters at width 1.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    gated = False

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__()
        stem, channels = scaled(64, width), scaled(192, width)
        parts: list[nn.Module] = [
            SeparableUnit(3, stem, 7, 2),
            LightMaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            ConvUnit(stem, stem),
            GatedUnit(stem, channels) if self.gated else SeparableUnit(stem, channels, 3),
            LightMaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ]
        for name, published in MIXED_CHANNELS.items():
            if name == "Mixed_4b":
                parts.append(LightMaxPool3d((3, 3, 3), (2, 2, 2), (1, 1, 1)))
            if name == "Mixed_5b":
                parts.append(LightMaxPool3d((2, 2, 2), (2, 2, 2)))
            block = SeparableInceptionBlock(
                channels, tuple(scaled(count, width) for count in published), gated=self.gated
            )
            parts.append(block)
            channels = block.out_channels
        self.features = nn.Sequential(*parts)
        self.feature_dim = channels
        initialise(self, bn_momentum=bn_momentum)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """Every Inception block, the pools with what is before or after them, and the stem in two parts."""
        parts = list(self.features.children())
        following = [*parts[1:], None]
        blocks = range(5, len(parts))
        ends = [0, 2, 5, *(at + 1 for at in blocks if not isinstance(following[at], LightMaxPool3d))]
        return [parts[start:end] for start, end in itertools.pairwise(ends)]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T', H', W']; 8 x 112 x 112 becomes 1 x 3 x 3."""
        x_bcthw = clips_bcthw
        for number in range(len(self.stages())):
            x_bcthw = self.run_stage(number, x_bcthw)
        return x_bcthw


class S3dG(S3d):
    """S3D-G without its classifier: S3D with self-gating.

    9.14 M parameters at width 1; 9.55 M with a classifier of 400 classes. Gates stand where the authors' code has
    them (tensorflow/models, ``slim/nets/s3dg.py``): behind Conv2d_2c and behind all four branches of each block. The
    11.56 M of the paper's table is not the sum of that network with any classifier of its data sets.

    Args:
        width: factor on every channel count.
        bn_momentum: share of the newest batch in the running statistics.
    """

    gated = True
