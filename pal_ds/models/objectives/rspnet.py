"""Relative speed perception (RSPNet, Chen et al., AAAI 2021): which clip plays as fast, which is of this video?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.backbones import backbone_of
from pal_ds.models.encoder import encode_clips
from pal_ds.models.layers.numerics import at_least_fp32, full_precision, unit
from pal_ds.models.layers.projection_heads import Projector
from pal_ds.models.objectives.base import ContrastTerm, ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.momentum_contrast import MomentumObjective
from pal_ds.models.ssl.embedding_quality import feature_std
from pal_ds.models.ssl.info_nce import info_nce
from pal_ds.models.ssl.playback_speed import clips_at_speeds


class TwoHeadEncoder(nn.Module):
    """Backbone with one projection head for appearance and one for motion.

    Args:
        model: backbone and head options.
        speeds: number of speeds that the clips come in.
    """

    def __init__(self, model: ModelConfig, *, speeds: int) -> None:
        super().__init__()
        self.channels_last = model.channels_last
        self.speeds = speeds
        self.backbone = backbone_of(model)
        self.appearance = self._head(model)
        self.motion = self._head(model)

    def _head(self, model: ModelConfig) -> Projector:
        return Projector(
            self.backbone.feature_dim,
            model.embedding_dim,
            layers=model.projector_layers,
            hidden=model.projector_hidden,
            batch_norm=model.head_bn,
        )

    def forward(self, clips_bncthw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, C] and unit vectors of appearance and of motion, [B, speeds, D] each."""
        samples, clips = clips_bncthw.shape[:2]
        features_nc = encode_clips(self.backbone, clips_bncthw, channels_last=self.channels_last)
        shape = (samples, self.speeds, clips // self.speeds, -1)
        appearance_bsd, motion_bsd = (
            unit(at_least_fp32(head(features_nc)).reshape(shape).mean(dim=2))
            for head in (self.appearance, self.motion)
        )
        features_bc = at_least_fp32(features_nc.detach()).reshape(samples, clips, -1).mean(dim=1)
        return features_bc, appearance_bsd, motion_bsd


class RspObjective(MomentumObjective):
    """Margin ranking of relative speed plus instance contrast on appearance.

    Two views of a video give clips of every speed. Motion: a query must be more similar to the key clips of its
    own speed than to those of another, by a margin. Appearance: InfoNCE of a query with the key clips of another
    speed of the same video, against other videos. Clips of one video and speed are averaged.

    Args:
        objective: speeds, margin, weight and negatives.
        model: network, temperature and momentum.
        queue: size of the memory of appearance keys.
    """

    query_encoder: TwoHeadEncoder
    key_encoder: TwoHeadEncoder

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig) -> None:
        super().__init__(TwoHeadEncoder(model, speeds=len(objective.speeds)), objective, model, queue)

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss of a micro-batch; see :class:`Objective`."""
        ((key_bjcthw, _),) = batch.keys
        features_bc, query_bsd, query_motion_bsd = self.query_encoder(
            clips_at_speeds(batch.query_bjcthw, self.options.speeds)
        )
        with torch.no_grad():
            _, keys_bsd, key_motion_bsd = self.key_encoder(clips_at_speeds(key_bjcthw, self.options.speeds))
        staged_bd = keys_bsd[:, 0]
        speeds = len(self.options.speeds)
        # A query meets a key of another speed of the same video: what they share is appearance, not motion.
        positive_bsd = keys_bsd.roll(1, dims=1)
        ranking, ordered = speed_ranking(query_motion_bsd, key_motion_bsd, self.options.margin)
        metrics = {
            "speed_loss": ranking.detach(),
            "speed_order": ordered,
            "feature_std": feature_std(query_bsd.detach().mean(dim=1)),
        }
        if not self.training:
            sample_b = torch.arange(len(query_bsd), device=query_bsd.device)
            term = ContrastTerm(
                query_md=query_bsd.flatten(0, 1),
                key_md=positive_bsd.flatten(0, 1),
                sample_m=sample_b.repeat_interleave(speeds),
                weight=1.0,
                temperature=self.model.temperature,
            )
            rest = self.options.speed_weight * ranking
            return ObjectiveOutput(
                loss=rest, staged=staged_bd, terms=(term,), metrics=metrics, features=features_bc
            )
        negatives_nd, excluded = self.negatives(staged_bd, batch.recordings_b)
        if excluded is not None and excluded.ndim == 2:
            excluded = excluded.repeat_interleave(speeds, dim=0)
        contrast = info_nce(
            query_bsd.flatten(0, 1),
            positive_bsd.flatten(0, 1),
            negatives_nd,
            temperature=self.model.temperature,
            excluded=excluded,
        )
        return ObjectiveOutput(
            loss=contrast.loss + self.options.speed_weight * ranking,
            staged=staged_bd if self.queue is not None else None,
            metrics=contrast.metrics | metrics,
        )


def speed_ranking(query_bsd: Tensor, key_bsd: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Rank keys of a query's own speed above those of every other speed.

    Args:
        query_bsd: unit vectors of the query view by speed.
        key_bsd: the same of the key view.
        margin: how much more similar equal speeds must be.

    Returns:
        Mean of max(0, margin - (same - other)) over samples, speeds and other speeds, and the share of these
        triplets that are in order. Features that know nothing of speed score ``margin``.
    """
    speeds = query_bsd.shape[1]
    with full_precision(query_bsd):
        similarity_bss = query_bsd @ key_bsd.transpose(1, 2)
        same_bs1 = similarity_bss.diagonal(dim1=1, dim2=2).unsqueeze(2)
        lead_bss = same_bs1 - similarity_bss
        other_ss = ~torch.eye(speeds, dtype=torch.bool, device=query_bsd.device)
        triplets = len(query_bsd) * speeds * (speeds - 1)
        loss = ((margin - lead_bss).clamp(min=0) * other_ss).sum() / triplets
    ordered = ((lead_bss.detach() > 0) & other_ss).sum() / triplets
    return loss, ordered
