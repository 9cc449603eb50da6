"""Arrow of time (Wei et al., CVPR 2018): does a clip play forwards or backwards?"""

from __future__ import annotations

import torch
from torch import Tensor

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.objectives.base import ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.classifying import ClassifierEncoder, ClassifyingObjective
from pal_ds.models.ssl.classified import classified

FORWARDS, BACKWARDS = 0, 1


class ArrowOfTimeObjective(ClassifyingObjective):
    """Cross-entropy of every clip of the query view against its direction; both ways of each clip are in the batch.

    So the classes are balanced and nothing is drawn. The paper's network sees optical flow; this one sees frames (or
    with ``model.differences`` their differences).

    Args:
        objective: dropout.
        model: backbone options.
    """

    query_encoder: ClassifierEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig) -> None:
        super().__init__(ClassifierEncoder(model, num_classes=2, dropout=objective.dropout), model)

    @classmethod
    def from_config(
        cls, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None
    ) -> ArrowOfTimeObjective:
        """See :class:`Objective`; the classes are the two directions, and there is no queue."""
        del queue, num_classes
        return cls(objective, model)

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss and accuracy of a micro-batch; only the query view is looked at."""
        clips_bncthw, target_bn = both_ways(batch.query_bjcthw)
        features_nc, logits_bnk = self.query_encoder(clips_bncthw)
        # A sample's feature is that of its clips as they play.
        return self.classify(features_nc, classified(logits_bnk, target_bn), seen=batch.query_bjcthw.shape[1])


def both_ways(clips_bjcthw: Tensor) -> tuple[Tensor, Tensor]:
    """Return every clip and its reversal, [B, 2 J, 3, T, H, W], and their directions, int64 [B, 2 J]."""
    both = torch.cat((clips_bjcthw, clips_bjcthw.flip(3)), dim=1)
    samples, clips = clips_bjcthw.shape[:2]
    direction_n = torch.arange(2, device=clips_bjcthw.device).repeat_interleave(clips)
    return both, direction_n.expand(samples, -1)
