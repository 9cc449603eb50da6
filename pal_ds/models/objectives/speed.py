"""Speed prediction (SpeedNet, Benaim et al., CVPR 2020): does a clip play at normal speed or sped up?"""

from __future__ import annotations

import torch
from torch import Tensor

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.objectives.base import ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.classifying import ClassifierEncoder, ClassifyingObjective
from pal_ds.models.ssl.classified import classified
from pal_ds.models.ssl.playback_speed import clips_at_speeds


class SpeedObjective(ClassifyingObjective):
    """Cross-entropy of every clip against the speed it was cut at; all speeds of a video are in the batch.

    SpeedNet's guards against shortcuts hold here: equal length of all clips, and one augmentation for all clips
    of a video, so that neither size nor colour tells the speed.

    Args:
        objective: speeds and dropout.
        model: backbone options.
    """

    query_encoder: ClassifierEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig) -> None:
        encoder = ClassifierEncoder(model, num_classes=len(objective.speeds), dropout=objective.dropout)
        super().__init__(encoder, model)
        self.speeds = objective.speeds

    @classmethod
    def from_config(
        cls, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None
    ) -> SpeedObjective:
        """See :class:`Objective`; the classes are the speeds, and there is no queue."""
        del queue, num_classes
        return cls(objective, model)

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss and accuracy of a micro-batch; only the query view is looked at."""
        clips_bncthw = clips_at_speeds(batch.query_bjcthw, self.speeds)
        features_nc, logits_bns = self.query_encoder(clips_bncthw)
        target_n = speed_classes(clips_bncthw.shape[1], len(self.speeds), clips_bncthw.device)
        return self.classify(features_nc, classified(logits_bns, target_n.expand(logits_bns.shape[:2])))


def speed_classes(clips: int, speeds: int, device: torch.device) -> Tensor:
    """Class of every clip of :func:`clips_at_speeds`, int64 [clips]."""
    return torch.arange(speeds, device=device).repeat_interleave(clips // speeds)
