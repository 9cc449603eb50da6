"""A small TSM-ResNet-8 for runs on a CPU: few, wide operations instead of many thin ones.

The published backbones are slow at a fraction of their width: dozens of thin convolutions and BatchNorms move memory
and compute little. This one reads the clip in patches that don't overlap, so no large map is ever written, and has
seven convolutions in its main path. The residual blocks are ResNet-18's, one a stage, with TSM's shift (Lin et al.,
2019) before the second convolution, where the map is smallest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pal_ds.models.backbones.common import Backbone, initialise

STEM, STAGES = 64, (128, 256, 384)
PATCH = 4
SHIFT_SHARE = 4
#: Channel counts are multiples of it: whole vector registers. With 4 channels, laid out channels-last, the backward
#: pass of torch 2.13's convolutions writes past its memory on CPUs without AVX-512.
MULTIPLE = 8


def scaled(channels: int, width: float) -> int:
    """Return a channel count at a width factor, rounded to a multiple of eight, at least eight."""
    return max(MULTIPLE, MULTIPLE * round(channels * width / MULTIPLE))


class _Shift(torch.autograd.Function):
    """A quarter of the channels one frame back, a quarter one ahead; the gradient goes the other way.

    A function of its own because the autograd of slices would fill a whole map with zeros for each of them.
    """

    @staticmethod
    def forward(ctx: Any, x_btchw: Tensor) -> Tensor:
        del ctx
        return _shifted(x_btchw, ahead=1)

    @staticmethod
    def backward(ctx: Any, gradient_btchw: Tensor) -> Tensor:
        del ctx
        return _shifted(gradient_btchw, ahead=-1)


def _shifted(x_btchw: Tensor, *, ahead: int) -> Tensor:
    fold = x_btchw.shape[2] // SHIFT_SHARE
    out = torch.empty_like(x_btchw)
    for part, step in ((slice(0, fold), ahead), (slice(fold, 2 * fold), -ahead)):
        if step > 0:
            out[:, :-1, part] = x_btchw[:, 1:, part]
            out[:, -1, part] = 0
        else:
            out[:, 1:, part] = x_btchw[:, :-1, part]
            out[:, 0, part] = 0
    out[:, :, 2 * fold :] = x_btchw[:, :, 2 * fold :]
    return out


def shift(x_nchw: Tensor, frames: int) -> Tensor:
    """Exchange channels between neighbouring frames, zeros at the ends of a clip.

    Args:
        x_nchw: [B * frames, C, H, W], frames of a clip adjacent.
        frames: of a clip.
    """
    move: Any = _Shift.apply
    shifted: Tensor = move(x_nchw.view(-1, frames, *x_nchw.shape[1:]))
    return shifted.flatten(0, 1)


class ShiftBlock(nn.Module):
    """Two 3x3 convolutions with a shift in time between them, beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, 2, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_nchw: Tensor, frames: int) -> Tensor:
        """Apply the block to [B * frames, C, H, W]; halves height and width."""
        hidden = self.relu(self.bn1(self.conv1(x_nchw)))
        out: Tensor = self.relu(self.bn2(self.conv2(shift(hidden, frames))).add_(self.downsample(x_nchw)))
        return out


class TsmResNet8(Backbone):
    """Stem of 2 x 4 x 4 patches, then three stages of one shifted residual block; 3.5 M parameters at width 1.

    The stem halves the frame rate and divides height and width by 4: a clip of 8 x 112 x 112 becomes 4 x 28 x 28.

    Args:
        width: factor on every channel count; the result is rounded to multiples of eight.
        bn_momentum: share of the newest batch in the running statistics.
    """

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1) -> None:
        super().__init__()
        channels = scaled(STEM, width)
        patch = (2, PATCH, PATCH)
        self.stem = nn.Conv3d(3, channels, patch, patch, bias=False)
        self.bn = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList()
        for published in STAGES:
            self.blocks.append(ShiftBlock(channels, scaled(published, width)))
            channels = scaled(published, width)
        self.feature_dim = channels
        initialise(self, bn_momentum=bn_momentum)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The stem, and every residual block."""
        return [[self.stem, self.bn, self.relu], *([block] for block in self.blocks)]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T/2, H/32, W/32]."""
        x_bcthw = self.run_stage(0, clips_bcthw)
        frames = x_bcthw.shape[2]
        x_nchw = x_bcthw.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        for number in range(1, len(self.stages())):
            x_nchw = self.run_stage(number, x_nchw, frames)
        volume_btchw: Tensor = x_nchw.view(-1, frames, *x_nchw.shape[1:])
        return volume_btchw.transpose(1, 2)
