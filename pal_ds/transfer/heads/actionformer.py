"""An anchor-free head in the manner of ActionFormer (Zhang et al., ECCV 2022), written from the paper.

Section 3.2: a convolutional projection, transformer blocks with attention inside a local window, a feature pyramid by
blocks that halve the length, and two light convolutional heads shared by all levels: at every moment of every level
the probability of each class, and the distances to the start and the end of the action.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pal_ds.config.base import check, option
from pal_ds.config.heads import HeadConfig

#: Probability of a class at the start of training (the usual prior of focal loss).
PRIOR = 0.01


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [B, C, T]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_bct: Tensor) -> Tensor:
        """Normalise every moment."""
        normed: Tensor = self.norm(x_bct.transpose(1, 2))
        return normed.transpose(1, 2)


class LocalAttention(nn.Module):
    """Self-attention in which a moment sees the ``window`` moments around it.

    Queries, keys and values come from depthwise convolutions; with ``stride`` 2 these halve the length.

    Args:
        channels: in and out, a multiple of ``heads``.
        heads: attention heads.
        window: moments that are seen, odd.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, *, heads: int, window: int, stride: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, window // 2
        self.local = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False),
                ChannelNorm(channels),
                nn.Conv1d(channels, channels, 1),
            )
            for _ in range(3)
        )
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x_bct: Tensor, seen_bt: Tensor) -> Tensor:
        """Attend.

        Args:
            x_bct: [B, C, T].
            seen_bt: which moments of the output are real [B, T / stride]; the others are not looked at.
        """
        query, key, value = (self._split(branch(x_bct)) for branch in self.local)
        index = torch.arange(query.shape[2], device=x_bct.device)
        near_tt = (index[:, None] - index).abs() <= self.reach
        # A padded moment looks at itself, so that no row of the softmax is empty.
        allowed = (near_tt & seen_bt[:, None, None, :]) | torch.eye(
            len(index), dtype=torch.bool, device=x_bct.device
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        attended: Tensor = self.out(mixed.transpose(2, 3).flatten(1, 2))
        return attended

    def _split(self, x_bct: Tensor) -> Tensor:
        """Give [B, heads, T, C / heads]."""
        batch, channels, moments = x_bct.shape
        return x_bct.reshape(batch, self.heads, channels // self.heads, moments).transpose(2, 3)


class Block(nn.Module):
    """Attention and a two-layer network, each after a norm and beside a shortcut."""

    def __init__(
        self, channels: int, *, heads: int, window: int, stride: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.before = ChannelNorm(channels)
        self.attention = LocalAttention(channels, heads=heads, window=window, stride=stride)
        self.mlp = nn.Sequential(
            ChannelNorm(channels),
            nn.Conv1d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv1d(4 * channels, channels, 1),
            nn.Dropout(dropout),
        )

    def forward(self, x_bct: Tensor, seen_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Give the block's output [B, C, T / stride] and which of its moments are real."""
        seen = seen_bt[:, :: self.stride]
        short = x_bct if self.stride == 1 else F.max_pool1d(x_bct, 3, stride=2, padding=1)
        x = short + self.attention(self.before(x_bct) * seen_bt.unsqueeze(1), seen)
        return (x + self.mlp(x)) * seen.unsqueeze(1), seen


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionFormerConfig(HeadConfig):
    """Options of ActionFormer."""

    name: str = option("actionformer", "actionformer")
    hidden: int = option(512, "channels throughout")
    dropout: float = option(0.5, "dropout in the transformer blocks")
    levels: int = option(6, "levels of the feature pyramid, each half as long as the one before")
    window: int = option(19, "moments that attention sees, odd")
    attention_heads: int = option(4, "heads of attention")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hidden % 8 == 0, "head.hidden", self.hidden, "use a multiple of 8 (heads, directions)")
        check(0 <= self.dropout < 1, "head.dropout", self.dropout, "use a share in [0, 1)")
        check(1 <= self.levels <= 10, "head.levels", self.levels, "use 1 to 10")
        check(self.window % 2 == 1, "head.window", self.window, "use an odd number")
        heads = self.attention_heads
        check(
            heads >= 1 and self.hidden % heads == 0,
            "head.attention_heads",
            heads,
            f"use a divisor of head.hidden = {self.hidden}",
        )

    def network(self, feature_dim: int, classes: int) -> ActionFormer:
        """Make the network for features of ``feature_dim`` channels and so many classes."""
        return ActionFormer(
            feature_dim,
            classes,
            hidden=self.hidden,
            levels=self.levels,
            heads=self.attention_heads,
            window=self.window,
            dropout=self.dropout,
        )


class ActionFormer(nn.Module):
    """Scores every moment of a pyramid.

    Args:
        feature_dim: C, channels of the features.
        classes: K.
        hidden: channels throughout, a multiple of ``heads``.
        levels: of the pyramid; level l has one moment in 2^l.
        stem: blocks before the first halving.
        heads: attention heads.
        window: moments a moment sees, odd.
        dropout: in the blocks' networks.
    """

    def __init__(
        self,
        feature_dim: int,
        classes: int,
        *,
        hidden: int = 256,
        levels: int = 6,
        stem: int = 2,
        heads: int = 4,
        window: int = 9,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.feature_dim, self.classes, self.levels = feature_dim, classes, levels
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv1d(size, hidden, 3, padding=1, bias=False), ChannelNorm(hidden), nn.ReLU())
            for size in (feature_dim, hidden)
        )
        strides = [1] * stem + [2] * (levels - 1)
        self.blocks = nn.ModuleList(
            Block(hidden, heads=heads, window=window, stride=stride, dropout=dropout) for stride in strides
        )
        self.norms = nn.ModuleList(ChannelNorm(hidden) for _ in range(levels))
        self.classify = _head(hidden, classes)
        self.regress = _head(hidden, 2)
        self.scales = nn.Parameter(torch.ones(levels))
        last = self.classify[-1]
        assert isinstance(last, nn.Conv1d) and last.bias is not None
        nn.init.constant_(last.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x_bct: Tensor, seen_bt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score a batch.

        Args:
            x_bct: features [B, C, T].
            seen_bt: which of them are real, bool [B, T].

        Returns:
            Logits [B, P, K] and distances to start and end in units of the level's stride [B, P, 2], not negative,
            for the P moments of all levels (see ``points``), and which of them are real, bool [B, P].
        """
        whole = 2 ** (self.levels - 1)
        spare = -x_bct.shape[2] % whole
        seen = F.pad(seen_bt, (0, spare))
        x = F.pad(x_bct, (0, spare)) * seen.unsqueeze(1)
        for layer in self.project:
            x = layer(x) * seen.unsqueeze(1)
        found, real, level = [], [], 0
        for number, block in enumerate(self.blocks):
            x, seen = block(x, seen)
            if number + 1 < len(self.blocks) - (self.levels - 1):
                continue
            normed = self.norms[level](x) * seen.unsqueeze(1)
            distances = F.relu(self.regress(normed) * self.scales[level])
            found.append((self.classify(normed), distances))
            real.append(seen)
            level += 1
        logits, distances = (torch.cat(parts, dim=2).transpose(1, 2) for parts in zip(*found, strict=True))
        return logits, distances, torch.cat(real, dim=1)


def points(snippets: int, levels: int) -> tuple[Tensor, Tensor]:
    """Give the place of each moment of the pyramid in snippets, and its level's stride, float [P] each.

    Snippet k covers [k, k + 1]; a strided convolution with kernel 3 centres moment i of level l on snippet i * 2^l.
    """
    whole = 2 ** (levels - 1)
    padded = snippets + (-snippets % whole)
    places, strides = [], []
    for level in range(levels):
        stride = 2**level
        place = torch.arange(padded // stride, dtype=torch.float32) * stride + 0.5
        places.append(place)
        strides.append(torch.full_like(place, stride))
    return torch.cat(places), torch.cat(strides)


def _head(hidden: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Conv1d(hidden, hidden, 3, padding=1, bias=False), ChannelNorm(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv1d(hidden, out, 3, padding=1))
