"""What the training engine knows of a loss: views in, loss and staged keys out, one update a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pal_ds.models.weights import load_backbone_weights


@dataclass(kw_only=True)
class ViewBatch:
    """Two synthetic videos of each sample, with the place of the sample's action in both.

    Attributes:
        query_bjcthw: float, normalised, [B, J, 3, T, H, W]: J = 8 clips of T = 8 frames.
        key_bjcthw: the other view, same shape.
        query_region_b2: int64 [B, 2], (start, length) of the action region in clips.
        key_region_b2: the same for the key view.
        labels_b: int64 [B] class ids where the objective is supervised.
    """

    query_bjcthw: Tensor
    key_bjcthw: Tensor
    query_region_b2: Tensor
    key_region_b2: Tensor
    labels_b: Tensor | None = None


@dataclass(kw_only=True)
class ObjectiveOutput:
    """Result of one micro-batch.

    Attributes:
        loss: fp32 scalar, mean over B, with gradient in train mode.
        staged: detached keys [B, D], to be gathered in global sample order and handed to ``after_step`` once
            the optimizer has stepped; None where the objective keeps no queue.
        metrics: detached scalars, means over B.
    """

    loss: Tensor
    staged: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """A loss around a ``query_encoder`` whose ``backbone`` is what gets exported.

    Everything that must survive a restart is in ``state_dict()``; only parameters of ``query_encoder``
    require gradients.
    """

    query_encoder: nn.Module

    @abstractmethod
    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss of a micro-batch. Changes neither queue nor key weights; in train mode BatchNorm updates."""

    @torch.no_grad()
    def after_step(self, staged_global: Tensor | None) -> None:
        """Move what moves once per optimizer step; every rank passes the same tensor."""
        del staged_global

    def warm_start(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Start from given backbone weights instead of random ones.

        Raises:
            WeightsError: the weights do not fit, see :func:`pal_ds.models.weights.load_backbone_weights`.
        """
        load_backbone_weights(self.backbone, state, source=source)

    @property
    def backbone(self) -> nn.Module:
        """The query encoder's backbone."""
        backbone: nn.Module = self.query_encoder.get_submodule("backbone")
        return backbone

    @property
    def queue_fill(self) -> float:
        """Share of the queue that holds real keys; 1.0 where there is no queue. Reads the device."""
        return 1.0
