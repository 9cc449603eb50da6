"""Visual tempo consistency (VTHCL, Yang et al., 2020): slow and fast clips of a video are alike, on two levels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.config.objectives import OBJECTIVES
from pal_ds.models.backbones import backbone_of
from pal_ds.models.backbones.levels import kept_level, lower_level, pooled
from pal_ds.models.encoder import encode_clips
from pal_ds.models.layers.numerics import at_least_fp32, unit
from pal_ds.models.layers.projection_heads import Projector
from pal_ds.models.objectives.base import ContrastTerm, ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.momentum_contrast import MomentumObjective
from pal_ds.models.ssl.embedding_quality import feature_std
from pal_ds.models.ssl.info_nce import ContrastiveResult, info_nce

#: Parts of a key: (level, tempo), level 0 the lower one, tempo 0 the slow clip.
LOWER, UPPER = 0, 1
SLOW, FAST = 0, 1
TEMPOS = 2
PARTS = 4


class TwoLevelEncoder(nn.Module):
    """Backbone with a projection head on its output and one on the level below it.

    The paper trains a network for each tempo and keeps both; here one network sees both tempos, so that one backbone
    is exported.

    Args:
        model: backbone and head options.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.channels_last = model.channels_last
        self.backbone = backbone_of(model)
        self.level = lower_level(self.backbone)
        self.lower = self._head(model, self.level.channels)
        self.upper = self._head(model, self.backbone.feature_dim)

    def _head(self, model: ModelConfig, channels: int) -> Projector:
        return Projector(
            channels,
            model.embedding_dim,
            layers=model.projector_layers,
            hidden=model.projector_hidden,
            batch_norm=model.head_bn,
        )

    def forward(self, clips_bncthw: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, C], and unit vectors of both levels, [B, 2, D]: means over the N clips of a sample."""
        samples, clips = clips_bncthw.shape[:2]
        with kept_level(self.backbone, self.level.stage) as kept:
            features_nc = encode_clips(self.backbone, clips_bncthw, channels_last=self.channels_last)
        lower_nc = pooled(kept[0], samples * clips)
        levels = [
            unit(at_least_fp32(head(values_nc)).reshape(samples, clips, -1).mean(dim=1))
            for head, values_nc in ((self.lower, lower_nc), (self.upper, features_nc))
        ]
        features_bc = at_least_fp32(features_nc.detach()).reshape(samples, clips, -1).mean(dim=1)
        return features_bc, torch.stack(levels, dim=1)


class TempoObjective(MomentumObjective):
    """InfoNCE between the slow clips of a video and its fast clips, both ways, on two levels of the backbone.

    The query view's slow clips are contrasted with the key view's fast clips and the other way round. A key is the
    vectors of both levels and tempos side by side; a query is zero in all parts but the one that it is contrasted in,
    so one memory serves all four contrasts, in training and in validation. The loss is the mean over both directions
    and over the levels, the lower one weighed by ``objective.level_weight``.

    Args:
        objective: frame steps of the tempos, weight of the lower level, and negatives.
        model: network, temperature and momentum.
        queue: size of the memory.
    """

    query_encoder: TwoLevelEncoder
    key_encoder: TwoLevelEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig) -> None:
        assert OBJECTIVES["vthcl"].key_parts == PARTS
        super().__init__(TwoLevelEncoder(model), objective, model, queue, key_parts=PARTS)
        if self.queue is not None:
            rows_kpd = self.queue.keys.view(len(self.queue.keys), PARTS, -1)
            self.queue.keys.copy_(unit(rows_kpd).flatten(1))

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss of a micro-batch; see :class:`Objective`."""
        ((key_bjcthw, _),) = batch.keys
        with torch.no_grad():
            _, key_bpd = self._encoded(self.key_encoder, key_bjcthw)
            key_bd = key_bpd.flatten(1)
        features_bc, query_bpd = self._encoded(self.query_encoder, batch.query_bjcthw)
        weights = {LOWER: self.options.level_weight, UPPER: 1.0}
        total = TEMPOS * sum(weights.values())
        queries = [
            (
                level,
                weights[level] / total,
                placed(query_bpd[:, TEMPOS * level + tempo], TEMPOS * level + 1 - tempo),
            )
            for level in (LOWER, UPPER)
            for tempo in (SLOW, FAST)
        ]
        metrics = {"feature_std": feature_std(query_bpd.detach()[:, TEMPOS * UPPER :].mean(dim=1))}
        if not self.training:
            sample_b = torch.arange(len(key_bd), device=key_bd.device)
            terms = tuple(
                ContrastTerm(
                    query_md=query_bd,
                    key_md=key_bd,
                    sample_m=sample_b,
                    weight=weight,
                    temperature=self.model.temperature,
                    main=level == UPPER,
                )
                for level, weight, query_bd in queries
            )
            return ObjectiveOutput(
                loss=key_bd.new_zeros(()), staged=key_bd, terms=terms, metrics=metrics, features=features_bc
            )
        negatives_nd, excluded = self.negatives(key_bd, batch.recordings_b)
        found = [
            (level, weight, self._contrast(query_bd, key_bd, negatives_nd, excluded))
            for level, weight, query_bd in queries
        ]
        loss = torch.stack([weight * result.loss for _, weight, result in found]).sum()
        upper = [result.metrics for level, _, result in found if level == UPPER]
        metrics |= {name: torch.stack([each[name] for each in upper]).mean() for name in upper[0]}
        lower = [result.loss.detach() for level, _, result in found if level == LOWER]
        metrics["lower_loss"] = torch.stack(lower).mean()
        return ObjectiveOutput(loss=loss, staged=key_bd if self.queue is not None else None, metrics=metrics)

    def _encoded(self, encoder: TwoLevelEncoder, view_bjcthw: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the fast clips [B, C], and the four vectors of a sample, [B, 4, D], in the order of a key."""
        slow, fast = slow_and_fast(view_bjcthw, self.options.speeds)
        _, slow_bld = encoder(slow)
        features_bc, fast_bld = encoder(fast)
        return features_bc, torch.stack((slow_bld, fast_bld), dim=2).flatten(1, 2)

    def _contrast(
        self, query_bd: Tensor, key_bd: Tensor, negatives_nd: Tensor, excluded: Tensor | None
    ) -> ContrastiveResult:
        return info_nce(query_bd, key_bd, negatives_nd, temperature=self.model.temperature, excluded=excluded)


def placed(query_bd: Tensor, part: int) -> Tensor:
    """Return a query that meets one part of a key alone, [B, 4 * D]: zero in the others."""
    size = query_bd.shape[1]
    return F.pad(query_bd, (part * size, (PARTS - 1 - part) * size))


def slow_and_fast(view_bjcthw: Tensor, speeds: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cut a view, one run of J * T frames, into spans, and sample each at two frame steps.

    Args:
        view_bjcthw: [B, J, 3, T, H, W].
        speeds: frame steps (a, b) of the fast and the slow clip; b is a multiple of a and divides J.

    Returns:
        Slow clips [B, J / b, 3, T, H, W] and fast clips of the same spans, [B, J / b, 3, T * b / a, H, W].
    """
    fast_step, slow_step = speeds
    run_bcfhw = view_bjcthw.transpose(1, 2).flatten(2, 3)
    count = view_bjcthw.shape[1] // slow_step
    spans = torch.stack(run_bcfhw.chunk(count, dim=2), dim=1)
    return spans[:, :, :, ::slow_step], spans[:, :, :, ::fast_step]
