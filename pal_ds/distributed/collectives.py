"""Collectives under one name for every supported torch, with the time that they take noted in logged steps."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from pal_ds.distributed.step_clock import CLOCK

# torch 2.13 renamed the collective and warns of the old name.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)


def all_gather_flat(gathered: Tensor, local: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Gather equally shaped tensors of all ranks into one, rank after rank along the first dimension."""
    # A compiler can't follow a clock; while it traces, this is a constant.
    if torch.compiler.is_compiling():
        _all_gather(gathered, local, group=group)
        return
    with CLOCK.collective(on_gpu=local.is_cuda):
        _all_gather(gathered, local, group=group)


def all_reduce_sum(values: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Add up equally shaped tensors of all ranks, in place."""
    if torch.compiler.is_compiling():
        dist.all_reduce(values, group=group)
        return
    with CLOCK.collective(on_gpu=values.is_cuda):
        dist.all_reduce(values, group=group)


def all_reduce_max(values: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Take the element-wise maximum over all ranks, in place."""
    with CLOCK.collective(on_gpu=values.is_cuda):
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=group)
