"""BatchNorm's running statistics: undone where a step is skipped, taken from a batch where there are none yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNormGuard:
    """Keeps a copy of all running statistics below a module.

    Forward passes move running statistics before anyone can know that a batch was bad. Call :meth:`save`
    before a step's first forward pass and :meth:`restore` where the step is skipped.

    Args:
        module: objective or encoder; convert to synchronised BatchNorm first.
    """

    def __init__(self, module: nn.Module) -> None:
        layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
        tracked = [(layer.running_mean, layer.running_var, layer.num_batches_tracked) for layer in layers]
        self._live: list[Tensor] = [buffer for buffers in tracked for buffer in buffers if buffer is not None]
        self._saved = [buffer.clone() for buffer in self._live]

    @torch.no_grad()
    def save(self) -> None:
        """Remember the statistics as they are."""
        _copy(self._saved, self._live)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the remembered statistics back."""
        _copy(self._live, self._saved)

    @torch.no_grad()
    def finite(self) -> bool:
        """Whether all statistics are finite as they are; reads the device."""
        return (
            bool(torch.stack([buffer.isfinite().all() for buffer in self._live]).all())
            if self._live
            else True
        )


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Within it, forward passes in train mode replace all running statistics by the mean over these passes."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum = None
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked = torch.zeros_like(layer.num_batches_tracked)
    try:
        yield
    finally:
        for layer, (momentum, tracked) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, tracked
