"""Supervised action classification (TAC), the pre-training every localiser is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.backbones import backbone_of
from pal_ds.models.encoder import encode_clips
from pal_ds.models.layers.numerics import at_least_fp32, full_precision
from pal_ds.models.layers.torch_compile import compile_backbone
from pal_ds.models.objectives.base import Objective, ObjectiveOutput, ViewBatch
from pal_ds.models.ssl.embedding_quality import feature_std


class ClassifierEncoder(nn.Module):
    """Backbone, dropout and linear classifier, clip by clip.

    Args:
        model: backbone options.
        num_classes: number of action classes.
        dropout: share of features dropped before the classifier.
    """

    def __init__(self, model: ModelConfig, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.channels_last = model.channels_last
        self.backbone = backbone_of(model)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.backbone.feature_dim, num_classes)

    def forward(self, clips_bjcthw: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B * J, C] and logits [B, J, classes] of every clip."""
        features_nc = encode_clips(self.backbone, clips_bjcthw, channels_last=self.channels_last)
        logits_nk = self.classifier(self.dropout(features_nc))
        return features_nc, at_least_fp32(logits_nk.unflatten(0, clips_bjcthw.shape[:2]))


class SupervisedObjective(Objective):
    """Cross-entropy of every clip of the query view against its video's class.

    Meant for synthesis without paste, where all clips of a view show the labelled video. No queue, no key
    encoder; in eval mode logits are averaged over the clips of a video first.

    Args:
        objective: dropout and label smoothing.
        model: backbone options.
        num_classes: number of action classes.
    """

    query_encoder: ClassifierEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, *, num_classes: int) -> None:
        super().__init__()
        self.options = objective
        self.query_encoder = ClassifierEncoder(model, num_classes=num_classes, dropout=objective.dropout)
        if model.compile:
            compile_backbone(self.query_encoder.backbone)

    @classmethod
    def from_config(
        cls, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None
    ) -> SupervisedObjective:
        """See :class:`Objective`.

        Raises:
            ValueError: fewer than two classes.
        """
        del queue
        if num_classes is None or num_classes < 2:
            raise ValueError(
                f"objective.name = 'supervised': needs a shard set with at least 2 labels, got {num_classes};"
                " build it --with-labels"
            )
        return cls(objective, model, num_classes=num_classes)

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss and accuracy of a micro-batch.

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels_b is None:
            raise ValueError(
                "objective.name = 'supervised': the shard set has no labels; build it --with-labels"
            )
        features_nc, logits_bjk = self.query_encoder(batch.query_bjcthw)
        if not self.training:
            logits_bjk = logits_bjk.mean(dim=1, keepdim=True)
        target_bj = batch.labels_b.unsqueeze(1).expand(logits_bjk.shape[:2])
        with full_precision(logits_bjk):
            loss = F.cross_entropy(
                logits_bjk.flatten(0, 1), target_bj.flatten(), label_smoothing=self.options.label_smoothing
            )
        with torch.no_grad():
            correct = (logits_bjk.argmax(dim=2) == target_bj).to(loss.dtype).mean()
            features_nc = at_least_fp32(features_nc.detach())
            metrics = {"top1": correct, "feature_std": feature_std(features_nc)}
        features = features_nc.reshape(*batch.query_bjcthw.shape[:2], -1).mean(dim=1)
        return ObjectiveOutput(loss=loss, metrics=metrics, features=None if self.training else features)
