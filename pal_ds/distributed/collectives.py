"""Collectives under one name for every supported torch."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

# torch 2.13 renamed the collective and warns of the old name.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)


def all_gather_flat(gathered: Tensor, local: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Gather equally shaped tensors of all ranks into one, rank after rank along the first dimension."""
    _all_gather(gathered, local, group=group)
