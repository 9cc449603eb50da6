"""PAL: contrast the features of one action pasted into several videos (CVPR 2022, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.encoder import ClipSequenceEncoder
from pal_ds.models.layers.numerics import unit
from pal_ds.models.layers.projection_heads import region_embedding, region_mean
from pal_ds.models.objectives.base import ContrastTerm, ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.momentum_contrast import MomentumObjective
from pal_ds.models.ssl.embedding_quality import (
    alignment,
    chance_localisation_iou,
    feature_std,
    localisation_iou,
    uniformity,
)
from pal_ds.models.ssl.info_nce import ContrastiveResult, info_nce

Term = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class EncodedView:
    """One view after one encoder.

    Attributes:
        sequence_bjd: output of the temporal head, before any norm.
        region_b2: the region that was cut out.
        region_bd: region vectors, normalised as ``model.norm`` says.
        features_bjc: the backbone's features of the clips.
    """

    sequence_bjd: Tensor
    region_b2: Tensor
    region_bd: Tensor
    features_bjc: Tensor | None = None


class PalObjective(MomentumObjective):
    """Region-level InfoNCE between a query encoder and its momentum copy, negatives from a queue (Eq. 7).

    Every key view is a positive of the query; their losses are averaged. In eval mode nothing is contrasted yet
    (``ObjectiveOutput.terms``), and the metrics are alignment and uniformity of the region vectors,
    ``localisation_iou`` (does the query region find itself in the key view?) and ``localisation_iou_chance``, what
    a random window scores.

    Args:
        objective: negatives and the optional dense term.
        model: network, temperature and momentum.
        queue: size of the memory.
        temporal: build the temporal head.
    """

    localises = True
    query_encoder: ClipSequenceEncoder
    key_encoder: ClipSequenceEncoder

    def __init__(
        self, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, temporal: bool = True
    ) -> None:
        super().__init__(ClipSequenceEncoder(model, temporal=temporal), objective, model, queue)

    def encode_query(self, clips_bjcthw: Tensor, region_b2: Tensor) -> EncodedView:
        """One view through the query encoder, with gradient in train mode."""
        return self._view(self.query_encoder, clips_bjcthw, region_b2)

    @torch.no_grad()
    def encode_key(self, clips_bjcthw: Tensor, region_b2: Tensor) -> EncodedView:
        """One view through the key encoder, without gradient."""
        return self._view(self.key_encoder, clips_bjcthw, region_b2)

    def _view(self, encoder: ClipSequenceEncoder, clips_bjcthw: Tensor, region_b2: Tensor) -> EncodedView:
        features_bjc = encoder.features(clips_bjcthw)
        sequence_bjd = encoder.heads(features_bjc)
        region_b2 = self._region(sequence_bjd, region_b2)
        return EncodedView(
            sequence_bjd=sequence_bjd,
            region_b2=region_b2,
            region_bd=region_embedding(sequence_bjd, region_b2, self.model.norm),
            features_bjc=features_bjc.detach(),
        )

    def _region(self, sequence_bjd: Tensor, region_b2: Tensor) -> Tensor:
        del sequence_bjd
        return region_b2

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss of a micro-batch; see :class:`Objective`."""
        # Keys first: what they need is given back before the queries' activations are kept.
        keys = [self.encode_key(clips_bjcthw, region_b2) for clips_bjcthw, region_b2 in batch.keys]
        back: tuple[EncodedView, EncodedView] | None = None
        if self.model.symmetric:
            back_key = self.encode_key(batch.query_bjcthw, batch.query_region_b2)
            back = self.encode_query(*batch.keys[0]), back_key
        query = self.encode_query(batch.query_bjcthw, batch.query_region_b2)
        # Only the first key of a sample is queued, so that K / batch steps renew the queue whatever the recipe.
        staged = keys[0].region_bd.detach()
        if not self.training:
            return self._evaluation(query, keys, back, staged)
        loss, metrics = _mean([self._contrast(query, key, batch.recordings_b) for key in keys])
        if back is not None:
            loss, metrics = _mean([(loss, metrics), self._contrast(*back, batch.recordings_b)])
        return ObjectiveOutput(loss=loss, staged=staged if self.queue is not None else None, metrics=metrics)

    def _evaluation(
        self,
        query: EncodedView,
        keys: list[EncodedView],
        back: tuple[EncodedView, EncodedView] | None,
        staged: Tensor,
    ) -> ObjectiveOutput:
        """What validation contrasts: the same terms and weights as in training, negatives left open."""
        share = 1.0 if back is None else 0.5
        pairs = [(query, key, share / len(keys)) for key in keys]
        if back is not None:
            pairs.append((*back, 0.5))
        terms = [self._term(one, other, weight) for one, other, weight in pairs]
        if self.options.dense_weight > 0:
            dense = self.options.dense_weight
            terms += [self._dense_term(one, other, dense * weight) for one, other, weight in pairs]
        _, metrics = _mean([(staged.new_zeros(()), self._diagnostics(query, key)) for key in keys])
        return ObjectiveOutput(
            loss=staged.new_zeros(()),
            staged=staged,
            terms=tuple(terms),
            metrics=metrics,
            features=self._features(query),
        )

    def _term(self, query: EncodedView, key: EncodedView, weight: float) -> ContrastTerm:
        sample_b = torch.arange(len(query.region_bd), device=query.region_bd.device)
        return ContrastTerm(
            query_md=query.region_bd,
            key_md=key.region_bd,
            sample_m=sample_b,
            weight=weight,
            temperature=self.model.temperature,
        )

    def _dense_term(self, query: EncodedView, key: EncodedView, weight: float) -> ContrastTerm:
        query_md, key_md, sample_m = matched_clips(query, key)
        return ContrastTerm(
            query_md=query_md,
            key_md=key_md,
            sample_m=sample_m,
            weight=weight,
            temperature=self.model.temperature,
            main=False,
        )

    def _contrast(self, query: EncodedView, key: EncodedView, recordings_b: Tensor | None) -> Term:
        negatives_nd, excluded = self.negatives(key.region_bd, recordings_b)
        result = info_nce(
            query.region_bd,
            key.region_bd,
            negatives_nd,
            temperature=self.model.temperature,
            excluded=excluded,
            log_weights_n=self._log_weights(),
        )
        loss, metrics = result.loss, dict(result.metrics)
        if self.options.dense_weight > 0:
            dense = self._dense(query, key, negatives_nd, excluded)
            loss = loss + self.options.dense_weight * dense.loss
            metrics["dense_loss"] = dense.loss.detach()
        metrics |= self._diagnostics(query, key)
        return loss, metrics

    def _dense(
        self, query: EncodedView, key: EncodedView, negatives_nd: Tensor, excluded: Tensor | None
    ) -> ContrastiveResult:
        query_md, key_md, sample_m = matched_clips(query, key)
        if excluded is not None and excluded.ndim == 2:
            excluded = excluded[sample_m]
        return info_nce(query_md, key_md, negatives_nd, temperature=self.model.temperature, excluded=excluded)

    def _log_weights(self) -> Tensor | None:
        """Log of each negative's weight; None weighs all alike."""
        return None

    def _features(self, query: EncodedView) -> Tensor | None:
        if query.features_bjc is None:
            return None
        return region_mean(query.features_bjc, query.region_b2)

    @torch.no_grad()
    def _diagnostics(self, query: EncodedView, key: EncodedView) -> dict[str, Tensor]:
        metrics = {"feature_std": feature_std(unit(query.region_bd))}
        if self.training:
            return metrics
        metrics["alignment"] = alignment(query.region_bd, key.region_bd)
        if len(query.region_bd) > 1:
            metrics["uniformity"] = uniformity(query.region_bd)
        if self.localises:
            iou_b = localisation_iou(query.region_bd, key.sequence_bjd, key.region_b2, norm=self.model.norm)
            chance_b = chance_localisation_iou(key.region_b2, clips=key.sequence_bjd.shape[1])
            metrics |= {"localisation_iou": iou_b.mean(), "localisation_iou_chance": chance_b.mean()}
        return metrics


def _mean(terms: list[Term]) -> Term:
    losses, metrics = zip(*terms, strict=True)
    means = {name: torch.stack([each[name] for each in metrics]).mean() for name in metrics[0]}
    return torch.stack(losses).mean(), means


def matched_clips(query: EncodedView, key: EncodedView) -> tuple[Tensor, Tensor, Tensor]:
    """Pair every clip with the key clip at the same relative position of the region.

    Shapes must not depend on region lengths (the host would wait), so each region is read at J evenly spaced
    positions: a clip of a short region counts more than once, and every sample weighs the same.

    Returns:
        Unit vectors [B * J, D] of query and key, and each row's sample index, int64 [B * J].
    """
    batch, clips, _ = query.sequence_bjd.shape
    position_j = (torch.arange(clips, device=query.sequence_bjd.device) + 0.5) / clips
    sample_b1 = torch.arange(batch, device=position_j.device).unsqueeze(1)
    rows = []
    for view in (query, key):
        clip_bj = view.region_b2[:, :1] + (position_j * view.region_b2[:, 1:]).long()
        rows.append(unit(view.sequence_bjd[sample_b1, clip_bj]).flatten(0, 1))
    return rows[0], rows[1], sample_b1.expand(-1, clips).flatten()
