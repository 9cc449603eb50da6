"""Supervised action classification (TAC), the pre-training every localiser is compared with."""

from __future__ import annotations

from pal_ds.config.model import ModelConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.objectives.base import ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.classifying import (
    ClassifierEncoder,
    ClassObjective,
    labels_of,
)
from pal_ds.models.ssl.classified import classified


class SupervisedObjective(ClassObjective):
    """Cross-entropy of every clip of the query view against its video's class.

    Meant for synthesis without paste, where all clips of a view show the labelled video. In eval mode logits are
    averaged over the clips of a video first.

    Args:
        objective: dropout and label smoothing.
        model: backbone options.
        num_classes: number of action classes.
    """

    query_encoder: ClassifierEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, *, num_classes: int) -> None:
        super().__init__(ClassifierEncoder(model, num_classes=num_classes, dropout=objective.dropout), model)
        self.label_smoothing = objective.label_smoothing

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss and accuracy of a micro-batch.

        Raises:
            ValueError: the batch has no labels.
        """
        labels_b = labels_of(batch.labels_b, "supervised")
        features_nc, logits_bjk = self.query_encoder(batch.query_bjcthw)
        if not self.training:
            logits_bjk = logits_bjk.mean(dim=1, keepdim=True)
        target_bj = labels_b.unsqueeze(1).expand(logits_bjk.shape[:2])
        return self.classify(
            features_nc, classified(logits_bjk, target_bj, label_smoothing=self.label_smoothing)
        )
