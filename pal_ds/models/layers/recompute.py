"""Activation checkpointing: a stage keeps its input alone and is run again in the backward pass.

Gradients are those of a run that keeps everything, and BatchNorm sees the same batch: the second run normalises
by the same statistics (over all ranks, where it is synchronised) and leaves the running ones alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def through(modules: Sequence[nn.Module], x: Tensor, *arguments: Any) -> Tensor:
    """Run modules one after the other, each with the same further arguments."""
    for module in modules:
        x = module(x, *arguments)
    return x


def recomputed(modules: Sequence[nn.Module], x: Tensor, *arguments: Any) -> Tensor:
    """Run modules as :func:`through` does, and keep nothing but ``x`` for the backward pass.

    The modules must not draw random numbers, and none may change its input in place.
    """
    found: Tensor = checkpoint(
        through,
        modules,
        x,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (contextlib.nullcontext(), _unmoved_statistics(modules)),
    )
    return found


@contextlib.contextmanager
def _unmoved_statistics(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Within it, BatchNorm layers in train mode move running statistics that nobody reads.

    Layers in eval mode (frozen ones) read their statistics, and keep them.
    """
    parts = [part for module in modules for part in module.modules()]
    layers = [part for part in parts if isinstance(part, _BatchNorm) and part.training]
    kept: list[dict[str, Tensor | None]] = []
    for layer in layers:
        kept.append({name: layer._buffers.get(name) for name in _STATISTICS})
        spare = {name: None if live is None else torch.empty_like(live) for name, live in kept[-1].items()}
        layer._buffers.update(spare)
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update(buffers)


def wants_recompute(module: nn.Module) -> bool:
    """Whether a forward pass of a module is one that a backward pass follows, over a batch's own statistics."""
    return module.training and torch.is_grad_enabled()
