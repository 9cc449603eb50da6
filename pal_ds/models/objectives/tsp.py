"""Temporally-sensitive pre-training (TSP, Alwassel et al., ICCVW 2021): action or background, and which action?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pal_ds.config.base import ConfigError
from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.layers.numerics import at_least_fp32
from pal_ds.models.objectives.base import ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.classifying import ClassifyingObjective, DroppedFeatures, labels_of
from pal_ds.models.pretrained_weights import WeightsError, read_weights
from pal_ds.models.ssl.classified import classified

BACKGROUND, FOREGROUND = 0, 1


class RegionEncoder(DroppedFeatures):
    """Backbone, dropout, a linear classifier of actions, and one of action against background.

    Args:
        model: backbone options.
        num_classes: number of actions.
        dropout: share of features dropped before the classifiers.
    """

    def __init__(self, model: ModelConfig, *, num_classes: int, dropout: float) -> None:
        super().__init__(model, dropout=dropout)
        self.action = nn.Linear(self.backbone.feature_dim, num_classes)
        self.region = nn.Linear(self.backbone.feature_dim, 2)

    def see_video(self, global_dim: int) -> None:
        """Widen the classifier of regions by a global video feature of so many numbers."""
        self.region = nn.Linear(self.backbone.feature_dim + global_dim, 2)

    def forward(self, clips_bjcthw: Tensor, video_bg: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B * J, C], logits of actions [B, J, classes] and of regions [B, J, 2]."""
        features_nc, kept_bjc = self.features(clips_bjcthw)
        actions = self.action(kept_bjc)
        if video_bg is not None:
            video_bjg = video_bg.unsqueeze(1).expand(-1, kept_bjc.shape[1], -1)
            kept_bjc = torch.cat((kept_bjc, video_bjg.to(kept_bjc.dtype)), dim=2)
        return features_nc, at_least_fp32(actions), at_least_fp32(self.region(kept_bjc))


class TemporallySensitiveObjective(ClassifyingObjective):
    """Cross-entropy of a clip's action, if it shows one, and of action against background.

    The shard set holds spans of untrimmed videos: actions under their class, and what lies between them under
    ``objective.background`` (``pal-eval spans`` makes the list). The second classifier also sees the global video
    feature (GVF) of the clip's recording: the maximum over the features of all its clips by the encoder before this
    training, a fixed table (``objective.gvf``, made by ``pal-eval gvf``).

    The published code averages the loss of the action over the action clips of a rank. Here a background clip counts
    in that mean as 0, so that the loss does not depend on how a batch is divided among ranks;
    ``objective.class_weight`` makes up for it.

    Args:
        objective: dropout, weight of the action, table of global features.
        model: backbone options.
        labels: class names of the shard set, in order; the background is one of them.
    """

    query_encoder: RegionEncoder
    actions: Tensor
    video_numbers: Tensor
    video_features: Tensor

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, *, labels: tuple[str, ...]) -> None:
        super().__init__(RegionEncoder(model, num_classes=len(labels) - 1, dropout=objective.dropout), model)
        self.options = objective
        background = labels.index(objective.background)
        actions = torch.arange(len(labels))
        # Class numbers without the background's, which is no action: -1.
        actions = torch.where(actions < background, actions, actions - 1)
        actions[background] = -1
        self.register_buffer("actions", actions, persistent=False)

    @classmethod
    def for_labels(
        cls,
        objective: ObjectiveConfig,
        model: ModelConfig,
        queue: QueueConfig,
        *,
        labels: tuple[str, ...] | None,
    ) -> TemporallySensitiveObjective:
        """See :class:`Objective`.

        Raises:
            ConfigError: no labels, none of them the background, or no action beside it.
        """
        del queue
        if labels is None:
            raise ConfigError(
                "objective.name",
                objective.name,
                "needs a shard set with labels; list the spans with pal-eval spans, build it --with-labels",
            )
        if objective.background not in labels or len(labels) < 2:
            some = ", ".join(labels[:5])
            raise ConfigError(
                "objective.background",
                objective.background,
                f"the shard set needs clips with this label beside those of actions; it has {some} "
                f"({len(labels)} labels); pal-eval spans lists both",
            )
        return cls(objective, model, labels=labels)

    @classmethod
    def from_config(
        cls, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None
    ) -> TemporallySensitiveObjective:
        """Make it where only the number of classes is known: the background is the last of them."""
        actions = [f"action {number}" for number in range((num_classes or 1) - 1)]
        return cls.for_labels(objective, model, queue, labels=(*actions, objective.background))

    def read_tables(self, read: Callable[[str], bytes]) -> None:
        """Read the global video features, and widen the classifier that sees them.

        Raises:
            ConfigError: the file is no table of them.
        """
        if not self.options.gvf:
            return
        source = self.options.gvf
        try:
            tables = read_weights(read(source), source=source)
            numbers_r, features_rg = tables["recordings"].long(), tables["features"].float()
        except (WeightsError, KeyError) as error:
            raise ConfigError(
                "objective.gvf", source, "is no table of global video features; make one with pal-eval gvf"
            ) from error
        order_r = numbers_r.argsort()
        self.register_buffer("video_numbers", numbers_r[order_r])
        self.register_buffer("video_features", features_rg[order_r])
        self.query_encoder.see_video(features_rg.shape[1])

    def global_features(self, recordings_b: Tensor) -> Tensor:
        """Look up the global feature of each recording, [B, G].

        Raises:
            RuntimeError: the table lacks one (on a GPU the device stops with the same words, later).
        """
        row_b = torch.searchsorted(self.video_numbers, recordings_b).clamp(max=len(self.video_numbers) - 1)
        known = (self.video_numbers[row_b] == recordings_b).all()
        torch._assert_async(known, "objective.gvf: the table has no feature of a recording of the shard set")
        return self.video_features[row_b]

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss and accuracy of a micro-batch; only the query view is looked at.

        Raises:
            ValueError: the batch has no labels, or no recordings where global features are asked for.
        """
        labels_b = labels_of(batch.labels_b, "tsp")
        video_bg = None
        if self.options.gvf:
            if batch.recordings_b is None:
                raise ValueError("objective.gvf: a batch needs the recordings of its clips")
            video_bg = self.global_features(batch.recordings_b)
        features_nc, action_bjk, region_bj2 = self.query_encoder(batch.query_bjcthw, video_bg)
        clips = batch.query_bjcthw.shape[1]
        action_b = self.actions[labels_b]
        foreground_b = (action_b >= 0).long()
        actions = classified(action_bjk, action_b.unsqueeze(1).expand(-1, clips))
        regions = classified(region_bj2, foreground_b.unsqueeze(1).expand(-1, clips))
        metrics = {
            "foreground": foreground_b.to(actions.loss_b.dtype).mean(),
            "class_hits": actions.hit_b.mean(),
            "region_loss": regions.loss.detach(),
            "class_loss": actions.loss.detach(),
        }
        return self.classify(features_nc, regions, actions, weight=self.options.class_weight, metrics=metrics)
