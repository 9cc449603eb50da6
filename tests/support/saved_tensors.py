"""What torch keeps for a backward pass, counted by its own hooks and once per storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


def saved_bytes(action: Callable[[], Any], without: Iterable[torch.Tensor] = ()) -> int:
    """Return the bytes of the storages that an action's autograd graph keeps.

    Args:
        action: runs a forward pass; what it returns is held while counting.
        without: tensors whose storages don't count, such as parameters.
    """
    left_out = {tensor.untyped_storage()._cdata for tensor in without}
    kept: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in left_out:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = action()
    total = sum(storage.nbytes() for storage in kept.values())
    del result
    return total
