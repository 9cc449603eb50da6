"""The layers of LGI: attentions, fusion, local and global context; names as in the public release."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN_AWAY = -1e9


class AttentivePooling(nn.Module):
    """Weights items by themselves and sums them.

    Args:
        hidden: channels of the items and of the output.
        attention: hidden channels of the weighting.
    """

    def __init__(self, hidden: int, attention: int) -> None:
        super().__init__()
        self.feat2att = nn.Linear(hidden, attention, bias=False)
        self.to_alpha = nn.Linear(attention, 1, bias=False)
        self.fc = nn.Linear(hidden, hidden)

    def forward(self, x_bnh: Tensor, exists_bn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pool [B, N, H] to [B, H]; also give the weights [B, N], zero where nothing exists."""
        logit = self.to_alpha(torch.tanh(self.feat2att(x_bnh))).squeeze(2)
        if exists_bn is not None:
            logit = logit.masked_fill(~exists_bn, HIDDEN_AWAY)
        weight = logit.softmax(dim=1)
        return self.fc(torch.einsum("bn,bnh->bh", weight, x_bnh)), weight


class WordAttention(nn.Module):
    """Additive attention of a guide over the words (Eq. 5 to 7)."""

    def __init__(self, hidden: int, attention: int) -> None:
        super().__init__()
        self.key2att = nn.Linear(hidden, attention)
        self.feat2att = nn.Linear(hidden, attention)
        self.to_alpha = nn.Linear(attention, 1)

    def forward(self, guide_bh: Tensor, words_blh: Tensor, exists_bl: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the words [B, H] by their weights [B, L]."""
        together = torch.tanh(self.feat2att(words_blh) + self.key2att(guide_bh).unsqueeze(1))
        logit = self.to_alpha(together).squeeze(2).masked_fill(~exists_bl, HIDDEN_AWAY)
        weight = logit.softmax(dim=1)
        return torch.einsum("bl,blh->bh", weight, words_blh), weight


class HadamardProduct(nn.Module):
    """Low-rank bilinear fusion of segments with one phrase (Eq. 8)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc_1 = nn.Linear(hidden, hidden)
        self.fc_2 = nn.Linear(hidden, hidden)
        self.fc_3 = nn.Linear(hidden, hidden)

    def forward(self, x_bth: Tensor, phrase_b1h: Tensor) -> Tensor:
        """Fuse to [B, T, H]."""
        product = torch.relu(self.fc_1(x_bth)) * torch.relu(self.fc_2(phrase_b1h))
        return torch.relu(self.fc_3(product))


class ResidualBlock(nn.Module):
    """Two temporal convolutions with a residual connection (Eq. 9)."""

    def __init__(self, hidden: int, kernel: int) -> None:
        super().__init__()
        block = nn.Sequential(
            nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(hidden),
        )
        self.blocks = nn.ModuleList([block])

    def forward(self, x_bth: Tensor) -> Tensor:
        """See the local context of every segment [B, T, H]."""
        x_bht = x_bth.transpose(1, 2)
        return torch.relu(self.blocks[0](x_bht) + x_bht).transpose(1, 2)


class NonLocalBlock(nn.Module):
    """Relates every segment to all that exist (Eq. 11)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_lin = nn.Linear(hidden, 2 * hidden)
        self.v_lin = nn.Linear(hidden, hidden)

    def forward(self, x_bth: Tensor, exists_bt: Tensor) -> Tensor:
        """Add to each segment what the others say about it [B, T, H]."""
        asked, told = self.c_lin(x_bth).chunk(2, dim=2)
        asking, asked, told = (self._split(part) for part in (self.v_lin(x_bth), asked, told))
        logit = asking @ asked.transpose(2, 3) / asking.shape[3] ** 0.5
        weight = logit.masked_fill(~exists_bt[:, None, None], HIDDEN_AWAY).softmax(dim=3)
        related: Tensor = (weight @ told).transpose(1, 2).flatten(2)
        return x_bth + related

    def _split(self, x_bth: Tensor) -> Tensor:
        batch, segments, hidden = x_bth.shape
        return x_bth.reshape(batch, segments, self.heads, hidden // self.heads).transpose(1, 2)
