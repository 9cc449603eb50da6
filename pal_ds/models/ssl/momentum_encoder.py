"""The momentum (key) encoder: a copy of the query encoder whose weights follow it slowly, in fp32."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

Encoder = TypeVar("Encoder", bound=nn.Module)


def momentum_copy(query_encoder: Encoder) -> Encoder:
    """A key encoder: equal weights and buffers, no gradients.

    Where a part of the query encoder is frozen, both have that part in common: it never moves, so a copy would be the
    same for ever.
    """
    frozen = [parameter for parameter in query_encoder.parameters() if not parameter.requires_grad]
    trains = any(parameter.requires_grad for parameter in query_encoder.parameters())
    common = {id(parameter): parameter for parameter in frozen} if trains else {}
    return copy.deepcopy(query_encoder, common).requires_grad_(False)


def common_names(key_encoder: nn.Module, query_encoder: nn.Module) -> list[str]:
    """Return the names of the parameters that a key encoder has in common with its query encoder."""
    queries = dict(query_encoder.named_parameters(remove_duplicate=False))
    return [
        name
        for name, parameter in key_encoder.named_parameters(remove_duplicate=False)
        if queries.get(name) is parameter
    ]


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
    def update(self, key_encoder: nn.Module, query_encoder: nn.Module, applied: Tensor | None = None) -> None:
        """Move the key encoder once.

        Args:
            key_encoder: moved in place.
            query_encoder: where to; finite.
            applied: float scalar on the device, 0 where nothing is to move; None is 1.
        """
        both = list(zip(key_encoder.parameters(), query_encoder.parameters(), strict=True))
        keys = [key.data for key, query in both if key is not query]
        queries = [query.data for key, query in both if key is not query]
        rate: Tensor | float = 1.0 - self.momentum
        if self.steps:
            progress = (self.updates / self.steps).clamp(max=1.0)
            rate = rate * (torch.cos(math.pi * progress) + 1.0) / 2.0
        rate = rate if applied is None else rate * applied
        if isinstance(rate, Tensor):
            # On the device, so that the host need not know it; one pass, and at rate 1 the queries to the last bit.
            torch._foreach_lerp_(keys, queries, [rate.to(key.dtype) for key in keys])
        else:
            torch._foreach_lerp_(keys, queries, rate)
        if self.steps:
            self.updates.add_(1 if applied is None else applied.to(torch.int64))
