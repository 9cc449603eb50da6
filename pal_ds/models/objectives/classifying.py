"""What all objectives that classify clips share: a backbone with a linear classifier, and their output."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from pal_ds.config.base import ConfigError
from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.backbones import backbone_of
from pal_ds.models.encoder import encode_clips
from pal_ds.models.layers.numerics import at_least_fp32
from pal_ds.models.layers.torch_compile import compile_backbone
from pal_ds.models.objectives.base import Objective, ObjectiveOutput
from pal_ds.models.ssl.classified import Classified
from pal_ds.models.ssl.embedding_quality import feature_std


class DroppedFeatures(nn.Module):
    """Backbone and dropout, clip by clip; classifiers go on top.

    Args:
        model: backbone options.
        dropout: share of features dropped before the classifiers.
    """

    def __init__(self, model: ModelConfig, *, dropout: float) -> None:
        super().__init__()
        self.channels_last = model.channels_last
        self.backbone = backbone_of(model)
        self.dropout = nn.Dropout(dropout)

    def features(self, clips_bncthw: Tensor) -> tuple[Tensor, Tensor]:
        """Features of every clip as the backbone gives them, [B * N, C], and with dropout, [B, N, C]."""
        features_nc = encode_clips(self.backbone, clips_bncthw, channels_last=self.channels_last)
        kept_bnc: Tensor = self.dropout(features_nc).unflatten(0, clips_bncthw.shape[:2])
        return features_nc, kept_bnc


class ClassifierEncoder(DroppedFeatures):
    """Backbone, dropout and linear classifier, clip by clip.

    Args:
        model: backbone options.
        num_classes: number of classes.
        dropout: share of features dropped before the classifier.
    """

    def __init__(self, model: ModelConfig, *, num_classes: int, dropout: float) -> None:
        super().__init__(model, dropout=dropout)
        self.classifier = nn.Linear(self.backbone.feature_dim, num_classes)

    def forward(self, clips_bncthw: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B * N, C] and logits [B, N, classes] of every clip."""
        features_nc, kept_bnc = self.features(clips_bncthw)
        return features_nc, at_least_fp32(self.classifier(kept_bnc))


class ClassifyingObjective(Objective):
    """An objective without contrast: no key encoder, no queue; only the query view is looked at.

    Args:
        encoder: has a ``backbone``.
        model: whether to compile it.
    """

    def __init__(self, encoder: nn.Module, model: ModelConfig) -> None:
        super().__init__()
        self.query_encoder = encoder
        if model.compile:
            compile_backbone(encoder.get_submodule("backbone"))

    def classify(
        self,
        features_nc: Tensor,
        main: Classified,
        other: Classified | None = None,
        *,
        weight: float = 1.0,
        seen: int | None = None,
        metrics: dict[str, Tensor] | None = None,
    ) -> ObjectiveOutput:
        """Loss, metrics and, in eval mode, features and the scores of every sample.

        ``chance_loss`` is the loss of a network that finds all classes equally likely, of this very batch: where not
        every row counts, losses of two batches differ by what is in them, and their distance to it does not.
        ``chance_top1``, in eval mode, is what such a network hits.

        Args:
            features_nc: of all clips, sample by sample, [B * N, C].
            main: whose hits are ``top1``.
            other: a second task.
            weight: of the second task's loss.
            seen: a sample's feature is the mean over its first so many clips; None: over all.
            metrics: further ones.
        """
        parts = [(main, 1.0)] if other is None else [(main, 1.0), (other, weight)]
        loss = torch.stack([share * part.loss for part, share in parts]).sum()
        with torch.no_grad():
            features_nc = at_least_fp32(features_nc.detach())
            found = {
                "top1": main.hit_b.mean(),
                "chance_loss": torch.stack([share * part.guess for part, share in parts]).sum(),
                "feature_std": feature_std(features_nc),
                **(metrics or {}),
            }
        if self.training:
            return ObjectiveOutput(loss=loss, metrics=found)
        found["chance_top1"] = main.loss_b.new_tensor(1 / main.classes)
        samples = len(main.loss_b)
        clips_bnc = features_nc.reshape(samples, len(features_nc) // samples, -1)
        return ObjectiveOutput(
            loss=loss,
            metrics=found,
            features=clips_bnc[:, :seen].mean(dim=1),
            scores=(torch.stack([share * part.loss_b for part, share in parts]).sum(dim=0), main.hit_b),
        )


class ClassObjective(ClassifyingObjective):
    """A classifying objective that is made from the number of classes of the shard set, ``num_classes``."""

    @classmethod
    def from_config(
        cls, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None
    ) -> Self:
        """See :class:`Objective`.

        Raises:
            ConfigError: fewer than two classes.
        """
        del queue
        made: Any = cls
        found: Self = made(objective, model, num_classes=counted_classes(objective, num_classes))
        return found


def counted_classes(objective: ObjectiveConfig, num_classes: int | None) -> int:
    """Return the number of classes of a shard set for an objective that needs them.

    Raises:
        ConfigError: fewer than two.
    """
    if num_classes is None or num_classes < 2:
        raise ConfigError(
            "objective.name",
            objective.name,
            f"needs a shard set with at least 2 labels, got {num_classes or 0}; build it with pal-shard build "
            "--with-labels",
        )
    return num_classes


def labels_of(labels_b: Tensor | None, objective: str) -> Tensor:
    """Return the labels of a batch.

    Raises:
        ValueError: there are none.
    """
    if labels_b is None:
        raise ValueError(
            f"objective.name = {objective!r}: the shard set has no labels; build it --with-labels"
        )
    return labels_b
