"""Undo for BatchNorm statistics: a skipped step must leave no NaN behind."""

from __future__ import annotations

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


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)
