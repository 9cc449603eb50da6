"""Boundary-sensitive pre-training (BSP, Xu et al., ICCV 2021): what changes where two parts of a video meet?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pal_ds.config.base import ConfigError
from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.config.synthesis import BOUNDARIES
from pal_ds.models.backbones import backbone_of
from pal_ds.models.encoder import encode_clips
from pal_ds.models.layers.numerics import at_least_fp32
from pal_ds.models.layers.torch_compile import compile_backbone
from pal_ds.models.objectives.base import Objective, ObjectiveOutput, ViewBatch
from pal_ds.models.ssl.classified import classified, guess
from pal_ds.models.ssl.embedding_quality import feature_std

DIFFERENT_CLASS = BOUNDARIES.index("different_class")


class BoundaryEncoder(nn.Module):
    """Backbone, dropout, a linear classifier of boundaries, and one of actions where these count.

    Args:
        model: backbone options.
        num_classes: number of action classes; 0 for no such classifier.
        dropout: share of features dropped before the classifiers.
    """

    def __init__(self, model: ModelConfig, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.channels_last = model.channels_last
        self.backbone = backbone_of(model)
        self.dropout = nn.Dropout(dropout)
        self.boundary = nn.Linear(self.backbone.feature_dim, len(BOUNDARIES))
        self.action = nn.Linear(self.backbone.feature_dim, num_classes) if num_classes else None

    def forward(self, clips_bncthw: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features [B * N, C], logits of boundaries [B, N, 4], and of actions [B, N, classes] or None."""
        features_nc = encode_clips(self.backbone, clips_bncthw, channels_last=self.channels_last)
        kept_bnc = self.dropout(features_nc).unflatten(0, clips_bncthw.shape[:2])
        actions = None if self.action is None else at_least_fp32(self.action(kept_bnc))
        return features_nc, at_least_fp32(self.boundary(kept_bnc)), actions


class BoundaryObjective(Objective):
    """Cross-entropy of a video of two parts against the kind of its boundary (``synthesis.paste=boundary``).

    A view is one clip of J * T frames, so that the backbone sees across the boundary. With ``objective.class_weight``
    above 0 a second head tells the action (the paper's single stream with two heads), of videos that show one class;
    a video of two classes counts there as 0. No queue, no key encoder.

    Args:
        objective: dropout and weight of the action.
        model: backbone options.
        num_classes: number of action classes.
    """

    query_encoder: BoundaryEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, *, num_classes: int) -> None:
        super().__init__()
        self.class_weight = objective.class_weight
        self.query_encoder = BoundaryEncoder(
            model, num_classes=num_classes if self.class_weight else 0, dropout=objective.dropout
        )
        if model.compile:
            compile_backbone(self.query_encoder.backbone)

    @classmethod
    def from_config(
        cls, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None
    ) -> BoundaryObjective:
        """See :class:`Objective`.

        Raises:
            ConfigError: fewer than two classes.
        """
        del queue
        if num_classes is None or num_classes < 2:
            raise ConfigError(
                "objective.name",
                objective.name,
                f"boundaries between classes need a shard set with at least 2 labels, got {num_classes}; build it "
                "with pal-shard build --with-labels",
            )
        return cls(objective, model, num_classes=num_classes)

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
        loss, loss_b = found.loss, found.loss_b
        with torch.no_grad():
            features_bc = at_least_fp32(features_bc.detach())
            kinds = torch.arange(len(BOUNDARIES), device=features_bc.device)
            share_k = (batch.boundaries_b.unsqueeze(1) == kinds).to(loss.dtype).mean(dim=0)
            metrics = {"top1": found.hit_b.mean(), "feature_std": feature_std(features_bc)}
            metrics |= {f"share_{name}": share for name, share in zip(BOUNDARIES, share_k, strict=True)}
        if action_bnk is not None:
            one_class_b = batch.boundaries_b != DIFFERENT_CLASS
            actions = classified(action_bnk, torch.where(one_class_b, batch.labels_b, -1).unsqueeze(1))
            loss = loss + self.class_weight * actions.loss
            loss_b = loss_b + self.class_weight * actions.loss_b
            metrics |= {"class_loss": actions.loss.detach(), "class_hits": actions.hit_b.mean()}
        if self.training:
            return ObjectiveOutput(loss=loss, metrics=metrics)
        # Of all four alike: a validation batch is one group, whose shares say little of the split's.
        chance = guess(torch.full_like(share_k, 1 / len(BOUNDARIES)))
        if action_bnk is not None:
            # What a guess of the action would cost is not known here.
            del chance["chance_loss"]
        return ObjectiveOutput(
            loss=loss, metrics=metrics | chance, features=features_bc, scores=(loss_b, found.hit_b)
        )


def as_one_clip(view_bjcthw: Tensor) -> Tensor:
    """Return a view's frames as one clip, [B, 1, 3, J * T, H, W]."""
    return view_bjcthw.transpose(1, 2).flatten(2, 3).unsqueeze(1)
