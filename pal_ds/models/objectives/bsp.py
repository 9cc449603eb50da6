"""Boundary-sensitive pre-training (BSP, Xu et al., ICCV 2021): what changes where two parts of a video meet?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pal_ds.config.model import ModelConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.config.synthesis import BOUNDARIES
from pal_ds.models.layers.numerics import at_least_fp32
from pal_ds.models.objectives.base import ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.classifying import ClassObjective, DroppedFeatures
from pal_ds.models.ssl.classified import classified

DIFFERENT_CLASS = BOUNDARIES.index("different_class")


class BoundaryEncoder(DroppedFeatures):
    """Backbone, dropout, a linear classifier of boundaries, and one of actions where these count.

    Args:
        model: backbone options.
        num_classes: number of action classes; 0 for no such classifier.
        dropout: share of features dropped before the classifiers.
    """

    def __init__(self, model: ModelConfig, *, num_classes: int, dropout: float) -> None:
        super().__init__(model, dropout=dropout)
        self.boundary = nn.Linear(self.backbone.feature_dim, len(BOUNDARIES))
        self.action = nn.Linear(self.backbone.feature_dim, num_classes) if num_classes else None

    def forward(self, clips_bncthw: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features [B * N, C], logits of boundaries [B, N, 4], and of actions [B, N, classes] or None."""
        features_nc, kept_bnc = self.features(clips_bncthw)
        actions = None if self.action is None else at_least_fp32(self.action(kept_bnc))
        return features_nc, at_least_fp32(self.boundary(kept_bnc)), actions


class BoundaryObjective(ClassObjective):
    """Cross-entropy of a video of two parts against the kind of its boundary (``synthesis.paste=boundary``).

    A view is one clip of J * T frames, so that the backbone sees across the boundary. With ``objective.class_weight``
    above 0 a second head tells the action (the paper's single stream with two heads), of videos that show one class;
    a video of two classes counts there as 0.

    Args:
        objective: dropout and weight of the action.
        model: backbone options.
        num_classes: number of action classes.
    """

    query_encoder: BoundaryEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, *, num_classes: int) -> None:
        classes = num_classes if objective.class_weight else 0
        super().__init__(BoundaryEncoder(model, num_classes=classes, dropout=objective.dropout), model)
        self.class_weight = objective.class_weight

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss and accuracy of a micro-batch.

        Raises:
            ValueError: the batch has no boundaries or no labels.
        """
        if batch.boundaries_b is None or batch.labels_b is None:
            raise ValueError(
                "objective.name = 'bsp': a batch needs boundaries (synthesis.paste=boundary) and labels"
            )
        features_bc, boundary_bnk, action_bnk = self.query_encoder(as_one_clip(batch.query_bjcthw))
        found = classified(boundary_bnk, batch.boundaries_b.unsqueeze(1))
        with torch.no_grad():
            kinds = torch.arange(len(BOUNDARIES), device=features_bc.device)
            share_k = (batch.boundaries_b.unsqueeze(1) == kinds).to(found.loss_b.dtype).mean(dim=0)
            metrics = {f"share_{name}": share for name, share in zip(BOUNDARIES, share_k, strict=True)}
        if action_bnk is None:
            return self.classify(features_bc, found, metrics=metrics)
        one_class_b = batch.boundaries_b != DIFFERENT_CLASS
        actions = classified(action_bnk, torch.where(one_class_b, batch.labels_b, -1).unsqueeze(1))
        metrics |= {"class_loss": actions.loss.detach(), "class_hits": actions.hit_b.mean()}
        return self.classify(features_bc, found, actions, weight=self.class_weight, metrics=metrics)


def as_one_clip(view_bjcthw: Tensor) -> Tensor:
    """Return a view's frames as one clip, [B, 1, 3, J * T, H, W]."""
    return view_bjcthw.transpose(1, 2).flatten(2, 3).unsqueeze(1)
