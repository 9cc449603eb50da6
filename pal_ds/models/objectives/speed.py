"""Speed prediction (SpeedNet, Benaim et al., CVPR 2020): does a clip play at normal speed or sped up?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.layers.numerics import at_least_fp32, full_precision
from pal_ds.models.layers.torch_compile import compile_backbone
from pal_ds.models.objectives.base import Objective, ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.supervised import ClassifierEncoder
from pal_ds.models.ssl.embedding_quality import feature_std
from pal_ds.models.ssl.playback_speed import clips_at_speeds


class SpeedObjective(Objective):
    """Cross-entropy of every clip against the speed it was cut at; all speeds of a video are in the batch.

    SpeedNet's guards against shortcuts hold here: equal length of all clips, and one augmentation for all clips
    of a video, so that neither size nor colour tells the speed. No queue, no key encoder.

    Args:
        objective: speeds and dropout.
        model: backbone options.
    """

    query_encoder: ClassifierEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig) -> None:
        super().__init__()
        self.speeds = objective.speeds
        self.query_encoder = ClassifierEncoder(
            model, num_classes=len(objective.speeds), dropout=objective.dropout
        )
        if model.compile:
            compile_backbone(self.query_encoder.backbone)

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
        target_bn = target_n.expand(logits_bns.shape[:2])
        with full_precision(logits_bns):
            loss = F.cross_entropy(logits_bns.flatten(0, 1), target_bn.flatten())
        with torch.no_grad():
            correct = (logits_bns.argmax(dim=2) == target_bn).to(loss.dtype).mean()
            features_nc = at_least_fp32(features_nc.detach())
            metrics = {"top1": correct, "feature_std": feature_std(features_nc)}
        features = features_nc.reshape(*logits_bns.shape[:2], -1).mean(dim=1)
        return ObjectiveOutput(loss=loss, metrics=metrics, features=None if self.training else features)


def speed_classes(clips: int, speeds: int, device: torch.device) -> Tensor:
    """Class of every clip of :func:`clips_at_speeds`, int64 [clips]."""
    return torch.arange(speeds, device=device).repeat_interleave(clips // speeds)
