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
    before a step's first forward pass and :meth:`restore` where the step is skipped. The statistics are moved into
    one tensor for each type, so that each of these is one operator and may be decided by the device.

    Args:
        module: objective or encoder; convert to synchronised BatchNorm first, and let its buffers be no others.
    """

    def __init__(self, module: nn.Module) -> None:
        layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
        places = [
            (layer, name)
            for name in ("running_mean", "running_var", "num_batches_tracked")
            for layer in layers
            if getattr(layer, name) is not None
        ]
        kinds = dict.fromkeys((getattr(*place).dtype, getattr(*place).device) for place in places)
        self._live = [
            _joined([place for place in places if (getattr(*place).dtype, getattr(*place).device) == kind])
            for kind in kinds
        ]
        self._saved = [buffer.clone() for buffer in self._live]

    @torch.no_grad()
    def save(self) -> None:
        """Remember the statistics as they are."""
        for saved, live in zip(self._saved, self._live, strict=True):
            saved.copy_(live)

    @torch.no_grad()
    def restore(self, where: Tensor | None = None) -> None:
        """Put the remembered statistics back.

        Args:
            where: scalar on the device; 0 leaves everything as it is. None is 1.
        """
        for saved, live in zip(self._saved, self._live, strict=True):
            live.copy_(saved if where is None else torch.where(where > 0, saved, live))

    @torch.no_grad()
    def finite(self) -> bool:
        """Whether all statistics are finite as they are; reads the device."""
        return all(bool(buffer.isfinite().all()) for buffer in self._live)


#: Elements that each statistic is padded to, so that kernels find it aligned.
_ALIGNED = 64


def _joined(places: list[tuple[nn.Module, str]]) -> Tensor:
    """Move buffers of one type into one tensor, of which they become views."""
    sizes = [-(-getattr(*place).numel() // _ALIGNED) * _ALIGNED for place in places]
    first: Tensor = getattr(*places[0])
    memory = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
    for (layer, name), part in zip(places, torch.split(memory, sizes), strict=True):
        buffer: Tensor = getattr(layer, name)
        view = part[: buffer.numel()].view(buffer.shape)
        view.copy_(buffer)
        setattr(layer, name, view)
    return memory


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
