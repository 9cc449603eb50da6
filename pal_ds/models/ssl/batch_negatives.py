"""Keys of all ranks as negatives of one another, for objectives without (or beside) a queue."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from pal_ds.distributed.collectives import all_gather_flat


@torch.no_grad()
def batch_negatives(key_bd: Tensor) -> tuple[Tensor, Tensor]:
    """Negatives from the micro-batch itself.

    Args:
        key_bd: this rank's keys, without gradient, [B, D]; every rank must hold equally many.

    Returns:
        Keys in rank order [W * B, D] and a bool mask [B, W * B], True at each query's own key.
    """
    batch = key_bd.shape[0]
    ranks, rank = 1, 0
    if dist.is_available() and dist.is_initialized():
        ranks, rank = dist.get_world_size(), dist.get_rank()
    keys_nd = key_bd
    if ranks > 1:
        keys_nd = key_bd.new_empty(ranks * batch, key_bd.shape[1])
        all_gather_flat(keys_nd, key_bd.contiguous())
    own_b1 = torch.arange(batch, device=key_bd.device).unsqueeze(1) + rank * batch
    return keys_nd, torch.arange(ranks * batch, device=key_bd.device) == own_b1
