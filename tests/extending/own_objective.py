"""An objective in one file, and the real command: ``own_objective.py … objective.name=rotation``."""

from __future__ import annotations

import sys

import torch
from torch.nn import functional as F

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.config.objectives import OBJECTIVES, ObjectiveChoice
from pal_ds.models.objectives.base import Objective, ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.classifying import ClassifierEncoder


class Rotation(Objective):
    """By how many quarter turns has a clip been turned? All four of every clip are classified."""

    query_encoder: ClassifierEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig) -> None:
        super().__init__()
        del queue
        self.query_encoder = ClassifierEncoder(model, num_classes=4, dropout=objective.dropout)

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss and accuracy of a micro-batch; only the query view is looked at."""
        samples = len(batch.query_bjcthw)
        clips_bjcthw = torch.cat([batch.query_bjcthw.rot90(turns, (4, 5)) for turns in range(4)])
        features_nc, logits_bjk = self.query_encoder(clips_bjcthw)
        turns_b = torch.arange(4, device=logits_bjk.device).repeat_interleave(samples)
        target_bj = turns_b[:, None].expand(logits_bjk.shape[:2])
        loss = F.cross_entropy(logits_bjk.flatten(0, 1), target_bj.flatten())
        top1 = (logits_bjk.detach().argmax(dim=2) == target_bj).float().mean()
        features_bc = features_nc.detach().reshape(*logits_bjk.shape[:2], -1).mean(dim=1)[:samples].float()
        return ObjectiveOutput(
            loss=loss, metrics={"top1": top1}, features=None if self.training else features_bc
        )


OBJECTIVES.add(
    ObjectiveChoice(name="rotation", build=f"{__name__}:Rotation", options=("dropout",), views=(1, 1))
)

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main

    sys.exit(main())
