"""How the tokens of a clip become one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AttentivePool(nn.Module):
    """One learned query that attends to all tokens (V-JEPA's attentive probe with one layer, Bardes et al., 2024).

    Args:
        dim: size C of a token.
        heads: attention heads; must divide C.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm = nn.LayerNorm(dim)
        self.keys_values = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens_blc: Tensor) -> Tensor:
        """Pool tokens [B, L, C] to [B, C]."""
        batch, length, dim = tokens_blc.shape
        keys_values: Tensor = self.keys_values(self.norm(tokens_blc))
        shape = (batch, length, 2, self.heads, dim // self.heads)
        keys, values = keys_values.view(shape).permute(2, 0, 3, 1, 4)
        query = self.query.to(keys.dtype).view(1, self.heads, 1, -1).expand(batch, -1, -1, -1)
        pooled = F.scaled_dot_product_attention(query, keys, values).reshape(batch, dim)
        found: Tensor = self.out(pooled)
        return found


class MeanPool(nn.Module):
    """The mean over all tokens."""

    def forward(self, tokens_blc: Tensor) -> Tensor:
        """Pool tokens [B, L, C] to [B, C]."""
        return tokens_blc.mean(dim=1)
