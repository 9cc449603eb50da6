"""A small video transformer as the encoders of today are built: tubelets, blocks of attention, no BatchNorm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pal_ds.config.registry import Choice
from pal_ds.models.backbones.common import Backbone

HEADS = 6
TUBELET = (2, 16, 16)


class Tubelets(nn.Module):
    """Clips to tokens with a sine code of their place: [B, 3, T, H, W] to [B, N, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv3d(3, channels, TUBELET, TUBELET)

    def forward(self, clips_bcthw: Tensor) -> Tensor:
        """Cut and project the tubelets."""
        tokens_bnc: Tensor = self.project(clips_bcthw).flatten(2).transpose(1, 2)
        return tokens_bnc + _sines(tokens_bnc.shape[1], tokens_bnc.shape[2], tokens_bnc.device)


class Block(nn.Module):
    """Attention and a layer of twice two projections, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x_bnc: Tensor) -> Tensor:
        """Apply the block to tokens."""
        batch, tokens, channels = x_bnc.shape
        qkv = self.qkv(self.norm1(x_bnc)).view(batch, tokens, 3, HEADS, channels // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x_bnc = x_bnc + self.out(seen)
        changed: Tensor = x_bnc + self.down(F.gelu(self.up(self.norm2(x_bnc))))
        return changed


class SmallViT(Backbone):
    """ViT-S over tubelets of 2 x 16 x 16: 22 M parameters at width 1 and 12 blocks.

    Args:
        width: factor on 384 channels, rounded to a multiple of the heads.
        bn_momentum: taken as every backbone does; there is no BatchNorm.
        depth: blocks.
    """

    def __init__(self, *, width: float = 1.0, bn_momentum: float = 0.1, depth: int = 12) -> None:
        del bn_momentum
        super().__init__()
        self.feature_dim = 2 * HEADS * max(1, round(384 * width / (2 * HEADS)))
        self.tubelets = Tubelets(self.feature_dim)
        self.blocks = nn.ModuleList(Block(self.feature_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(self.feature_dim)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The tubelets, and every block."""
        return [[self.tubelets], *([block] for block in self.blocks)]

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Feature volume, [B, feature_dim, T/2, H/16, W/16]."""
        x = clips_bcthw
        for number in range(len(self.stages())):
            x = self.run_stage(number, x)
        grid = [size // patch for size, patch in zip(clips_bcthw.shape[2:], TUBELET, strict=True)]
        volume: Tensor = self.norm(x).transpose(1, 2).unflatten(2, grid)
        return volume


CHOICE = Choice(name="small_vit", build=f"{__name__}:SmallViT")


def _sines(count: int, channels: int, device: torch.device) -> Tensor:
    places_n1 = torch.arange(count, device=device)[:, None]
    rates = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(10_000.0) / channels))
    return torch.cat(((places_n1 * rates).sin(), (places_n1 * rates).cos()), dim=1)
