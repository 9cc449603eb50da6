"""The momentum (key) encoder: a copy of the query encoder whose weights follow it slowly, in fp32."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

Encoder = TypeVar("Encoder", bound=nn.Module)


def momentum_copy(query_encoder: Encoder) -> Encoder:
    """A key encoder: equal weights and buffers, no gradients."""
    return copy.deepcopy(query_encoder).requires_grad_(False)


class MomentumUpdate(nn.Module):
    """Exponential moving average of parameters, key <- m key + (1 - m) query.

    BatchNorm buffers are left alone: the key encoder has statistics of its own (as MoCo, CoCLR, SlowFast).

    Args:
        momentum: m at the first update.
        steps: 0 for a constant m; otherwise m rises to 1 by a half cosine over this many updates, and
            ``updates``, an int64 buffer, counts them.
    """

    updates: Tensor

    def __init__(self, momentum: float, *, steps: int = 0) -> None:
        super().__init__()
        self.momentum = momentum
        self.steps = steps
        if steps:
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, key_encoder: nn.Module, query_encoder: nn.Module) -> None:
        """Move the key encoder once."""
        keys = [parameter.data for parameter in key_encoder.parameters()]
        queries = [parameter.data for parameter in query_encoder.parameters()]
        assert len(keys) == len(queries), "query and key encoder differ"
        if not self.steps:
            torch._foreach_lerp_(keys, queries, 1.0 - self.momentum)
            return
        # The rate stays a device tensor, so that the annealed average costs no wait for the device.
        progress = (self.updates / self.steps).clamp(max=1.0)
        rate = (1.0 - self.momentum) * (torch.cos(math.pi * progress) + 1.0) / 2.0
        moves = torch._foreach_sub(queries, keys)
        torch._foreach_mul_(moves, rate)
        torch._foreach_add_(keys, moves)
        self.updates.add_(1)
