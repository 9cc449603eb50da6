"""Inception-I3D (Carreira and Zisserman, 2017), the paper's backbone.

Module names follow the widely used PyTorch port (``Conv3d_1a_7x7.conv3d.weight``, ``Mixed_3b.b1a.bn.bias``),
so published weights load strictly. BatchNorm is plain and ReLU separate, because conversion to synchronised
BatchNorm replaces only plain modules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pal_ds.models.backbones.common import Backbone, initialise, scaled
from pal_ds.models.layers.light_pool import light_max_pool3d

BN_EPS = 1e-3

# Output channels of the branches b0, b1a, b1b, b2a, b2b, b3b of each Inception block.
MIXED_CHANNELS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def same_pad(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Front and back padding of TensorFlow's SAME rule: output ceil(size / stride), odd one at the back."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Unit3d(nn.Module):
    """Convolution, BatchNorm, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: edge of the cubic kernel, odd.
        stride: stride in time and space.
        same_padding: TensorFlow's SAME padding; it differs from symmetric padding only where stride > 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        same_padding: bool = True,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.pads_by_size = same_padding and stride > 1
        padding = 0 if self.pads_by_size else kernel // 2
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=BN_EPS)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Apply the unit; [B, C, T, H, W] in and out."""
        if self.pads_by_size:
            pads = [same_pad(size, self.kernel, self.stride) for size in reversed(x_bcthw.shape[2:])]
            x_bcthw = F.pad(x_bcthw, [amount for pair in pads for amount in pair])
        out: Tensor = self.relu(self.bn(self.conv3d(x_bcthw)))
        return out


class Pool3d(nn.Module):
    """Max pooling of non-negative volumes with TensorFlow's SAME or with symmetric padding.

    The SAME rule pads at most one more at the back than at the front, which is what ``ceil_mode`` does with
    the front's padding on both sides; so no padded copy is made. The border holds minus infinity instead of
    the original's zero, which is the same after a ReLU.
    """

    def __init__(
        self, kernel: tuple[int, int, int], stride: tuple[int, int, int], *, same_padding: bool = True
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.same_padding = same_padding

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Pool [B, C, T, H, W]."""
        if not self.same_padding:
            time, height, width = ((size - 1) // 2 for size in self.kernel)
            return light_max_pool3d(x_bcthw, self.kernel, self.stride, (time, height, width))
        sizes = zip(x_bcthw.shape[2:], self.kernel, self.stride, strict=True)
        time, height, width = (same_pad(size, kernel, stride)[0] for size, kernel, stride in sizes)
        return light_max_pool3d(x_bcthw, self.kernel, self.stride, (time, height, width), ceil_mode=True)


class InceptionBlock(nn.Module):
    """Four parallel branches, concatenated: 1; 1 then 3; 1 then 3; pool then 1."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], *, same_padding: bool = True) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = Unit3d(in_channels, b0)
        self.b1a = Unit3d(in_channels, b1a)
        self.b1b = Unit3d(b1a, b1b, 3)
        self.b2a = Unit3d(in_channels, b2a)
        self.b2b = Unit3d(b2a, b2b, 3)
        self.b3a = Pool3d((3, 3, 3), (1, 1, 1), same_padding=same_padding)
        self.b3b = Unit3d(in_channels, b3b)
        self.out_channels = b0 + b1b + b2b + b3b

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Apply the block; time and space keep their size."""
        branches = (
            self.b0(x_bcthw),
            self.b1b(self.b1a(x_bcthw)),
            self.b2b(self.b2a(x_bcthw)),
            self.b3b(self.b3a(x_bcthw)),
        )
        return torch.cat(branches, dim=1)


class InceptionI3d(Backbone):
    """Inception-v1 inflated to 3D without its classifier: 12.29 M parameters, 57 BatchNorm layers at width 1.

    Args:
        width: factor on every channel count.
        same_padding: TensorFlow's SAME padding (the published network) or symmetric padding.
        bn_momentum: share of the newest batch in the running statistics.
    """

    def __init__(self, *, width: float = 1.0, same_padding: bool = True, bn_momentum: float = 0.1) -> None:
        super().__init__()
        stem, wide = scaled(64, width), scaled(192, width)
        self.same_padding = same_padding
        self.Conv3d_1a_7x7 = Unit3d(3, stem, 7, 2, same_padding=same_padding)
        self.MaxPool3d_2a_3x3 = Pool3d((1, 3, 3), (1, 2, 2), same_padding=same_padding)
        self.Conv3d_2b_1x1 = Unit3d(stem, stem)
        self.Conv3d_2c_3x3 = Unit3d(stem, wide, 3)
        self.MaxPool3d_3a_3x3 = Pool3d((1, 3, 3), (1, 2, 2), same_padding=same_padding)
        channels = self._add_stage(("Mixed_3b", "Mixed_3c"), wide, width)
        self.MaxPool3d_4a_3x3 = Pool3d((3, 3, 3), (2, 2, 2), same_padding=same_padding)
        channels = self._add_stage(
            ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"), channels, width
        )
        self.MaxPool3d_5a_2x2 = Pool3d((2, 2, 2), (2, 2, 2), same_padding=same_padding)
        self.feature_dim = self._add_stage(("Mixed_5b", "Mixed_5c"), channels, width)
        initialise(self, bn_momentum=bn_momentum)

    def _add_stage(self, names: tuple[str, ...], in_channels: int, width: float) -> int:
        for name in names:
            channels = tuple(scaled(channel, width) for channel in MIXED_CHANNELS[name])
            block = InceptionBlock(in_channels, channels, same_padding=self.same_padding)
            self.add_module(name, block)
            in_channels = block.out_channels
        return in_channels

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """Every Inception block, the pools with what is before or after them, and the stem in two parts."""
        parts = dict(self.named_children())
        names = ["Conv3d_1a_7x7 MaxPool3d_2a_3x3", "Conv3d_2b_1x1 Conv3d_2c_3x3 MaxPool3d_3a_3x3", "Mixed_3b"]
        names += ["Mixed_3c MaxPool3d_4a_3x3", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e"]
        names += ["Mixed_4f MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c"]
        return [[parts[name] for name in stage.split()] for stage in names]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T', H', W']; 8 x 112 x 112 becomes 1 x 4 x 4."""
        x_bcthw = clips_bcthw
        for number in range(len(self.stages())):
            x_bcthw = self.run_stage(number, x_bcthw)
        return x_bcthw
