"""Two levels of a backbone: its output, and the volume before it halves its resolution for the last time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pal_ds.models.backbones.common import Backbone

_PROBE = (1, 3, 8, 64, 64)


class LowerLevel(NamedTuple):
    """Where a lower level is taken from.

    Attributes:
        stage: number of the stage of :meth:`Backbone.stages` whose output it is.
        channels: of that volume.
    """

    stage: int
    channels: int


def lower_level(backbone: Backbone) -> LowerLevel:
    """Find the last stage whose volume is larger in space than the output's (res4 of a ResNet).

    Raises:
        ValueError: the backbone names no stages, or none before its last resolution.
    """
    found: list[Tensor] = []
    hooks = [stage[-1].register_forward_hook(_keeper(found)) for stage in backbone.stages()]
    training = backbone.training
    try:
        with torch.no_grad():
            like = next(backbone.parameters())
            backbone.eval()(torch.zeros(_PROBE, dtype=like.dtype, device=like.device))
    finally:
        backbone.train(training)
        for hook in hooks:
            hook.remove()
    larger = [number for number, volume in enumerate(found) if volume.shape[-1] > found[-1].shape[-1]]
    if not larger:
        raise ValueError(
            f"{type(backbone).__name__} has no stage below its last resolution; use another backbone"
        )
    return LowerLevel(larger[-1], found[larger[-1]].shape[1])


@contextlib.contextmanager
def kept_level(backbone: Backbone, stage: int) -> Iterator[list[Tensor]]:
    """Within it, the first element of the list is the volume that ``stage`` gave when the backbone ran last."""
    kept: list[Tensor] = []
    hook = backbone.stages()[stage][-1].register_forward_hook(_keeper(kept))
    try:
        yield kept
    finally:
        hook.remove()


def pooled(volume: Tensor, clips: int) -> Tensor:
    """Average a volume over time and space, [clips, C].

    Args:
        volume: [clips, C, T, H, W], or frame by frame [clips * T, C, H, W].
        clips: number of clips.
    """
    means = volume.flatten(2).mean(dim=2)
    return means.view(clips, -1, means.shape[1]).mean(dim=1)


def _keeper(kept: list[Tensor]) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        del module, inputs
        kept.append(output)

    return keep
