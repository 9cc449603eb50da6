"""PAL: contrast the features of one action pasted into two videos (CVPR 2022, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pal_ds.config.model import ModelConfig, ObjectiveConfig, QueueConfig
from pal_ds.models.compiled import compile_backbone
from pal_ds.models.encoder import ClipSequenceEncoder
from pal_ds.models.gather import batch_negatives
from pal_ds.models.heads import region_embedding
from pal_ds.models.loss import ContrastiveResult, info_nce
from pal_ds.models.momentum import MomentumUpdate, momentum_copy
from pal_ds.models.numerics import unit
from pal_ds.models.objective import Objective, ObjectiveOutput, ViewBatch
from pal_ds.models.quality import chance_localisation_iou, feature_std, localisation_iou
from pal_ds.models.queue import KeyQueue


@dataclass(frozen=True, kw_only=True)
class EncodedView:
    """One view after one encoder.

    Attributes:
        sequence_bjd: output of the temporal head, before any norm.
        region_b2: the region that was cut out.
        region_bd: region vectors, normalised as ``model.norm`` says.
    """

    sequence_bjd: Tensor
    region_b2: Tensor
    region_bd: Tensor


class PalObjective(Objective):
    """Region-level InfoNCE between a query encoder and its momentum copy, negatives from a queue (Eq. 7).

    In eval mode the metrics include ``localisation_iou`` (does the query region find itself in the key view?)
    and ``localisation_iou_chance``, what a random window scores.

    Args:
        objective: negatives and the optional dense term.
        model: network, temperature and momentum.
        queue: size of the memory.
        temporal: build the temporal head.
    """

    localises = True
    query_encoder: ClipSequenceEncoder

    def __init__(
        self, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, temporal: bool = True
    ) -> None:
        super().__init__()
        self.options = objective
        self.model = model
        self.query_encoder = ClipSequenceEncoder(model, temporal=temporal)
        self.key_encoder = momentum_copy(self.query_encoder)
        self.momentum = MomentumUpdate(model.momentum, steps=model.momentum_steps)
        self.queue: KeyQueue | None = None
        if objective.negatives != "batch":
            self.queue = KeyQueue(queue.size, model.embedding_dim, mask_unfilled=queue.mask_unfilled)
        if model.compile:
            compile_backbone(self.query_encoder.backbone)
            compile_backbone(self.key_encoder.backbone)

    def encode_query(self, clips_bjcthw: Tensor, region_b2: Tensor) -> EncodedView:
        """One view through the query encoder, with gradient in train mode."""
        return self._view(self.query_encoder(clips_bjcthw), region_b2)

    @torch.no_grad()
    def encode_key(self, clips_bjcthw: Tensor, region_b2: Tensor) -> EncodedView:
        """One view through the key encoder, without gradient."""
        return self._view(self.key_encoder(clips_bjcthw), region_b2)

    def _view(self, sequence_bjd: Tensor, region_b2: Tensor) -> EncodedView:
        region_b2 = self._region(sequence_bjd, region_b2)
        region_bd = region_embedding(sequence_bjd, region_b2, self.model.norm)
        return EncodedView(sequence_bjd=sequence_bjd, region_b2=region_b2, region_bd=region_bd)

    def _region(self, sequence_bjd: Tensor, region_b2: Tensor) -> Tensor:
        del sequence_bjd
        return region_b2

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss of a micro-batch; see :class:`Objective`."""
        query = self.encode_query(batch.query_bjcthw, batch.query_region_b2)
        key = self.encode_key(batch.key_bjcthw, batch.key_region_b2)
        loss, metrics = self._contrast(query, key)
        if self.model.symmetric:
            back_query = self.encode_query(batch.key_bjcthw, batch.key_region_b2)
            back_key = self.encode_key(batch.query_bjcthw, batch.query_region_b2)
            back_loss, back_metrics = self._contrast(back_query, back_key)
            loss = (loss + back_loss) / 2
            metrics = {name: (value + back_metrics[name]) / 2 for name, value in metrics.items()}
        # Only this direction's keys are queued, so that K / batch steps renew the queue either way.
        staged = key.region_bd.detach() if self.queue is not None else None
        return ObjectiveOutput(loss=loss, staged=staged, metrics=metrics)

    def _contrast(self, query: EncodedView, key: EncodedView) -> tuple[Tensor, dict[str, Tensor]]:
        negatives_nd, excluded = self._negatives(key.region_bd)
        result = info_nce(
            query.region_bd,
            key.region_bd,
            negatives_nd,
            temperature=self.model.temperature,
            excluded=excluded,
        )
        loss, metrics = result.loss, dict(result.metrics)
        if self.options.dense_weight > 0:
            dense = self._dense(query, key, negatives_nd, excluded)
            loss = loss + self.options.dense_weight * dense.loss
            metrics["dense_loss"] = dense.loss.detach()
        metrics |= self._diagnostics(query, key)
        return loss, metrics

    def _negatives(self, key_bd: Tensor) -> tuple[Tensor, Tensor | None]:
        queued = None if self.queue is None else (self.queue.keys, self.queue.excluded())
        if queued is not None and self.options.negatives == "queue":
            return queued
        keys_nd, own_bn = batch_negatives(key_bd, joint=self.training)
        if queued is None:
            return keys_nd, own_bn
        queue_kd, unfilled_k = queued
        if unfilled_k is None:
            unfilled_k = own_bn.new_zeros(len(queue_kd))
        excluded = torch.cat((unfilled_k.expand(len(own_bn), -1), own_bn), dim=1)
        return torch.cat((queue_kd, keys_nd.to(queue_kd.dtype))), excluded

    def _dense(
        self, query: EncodedView, key: EncodedView, negatives_nd: Tensor, excluded: Tensor | None
    ) -> ContrastiveResult:
        query_md, key_md, sample_m = matched_clips(query, key)
        if excluded is not None and excluded.ndim == 2:
            excluded = excluded[sample_m]
        return info_nce(query_md, key_md, negatives_nd, temperature=self.model.temperature, excluded=excluded)

    @torch.no_grad()
    def _diagnostics(self, query: EncodedView, key: EncodedView) -> dict[str, Tensor]:
        metrics = {"feature_std": feature_std(unit(query.region_bd))}
        if self.localises and not self.training:
            iou_b = localisation_iou(query.region_bd, key.sequence_bjd, key.region_b2, norm=self.model.norm)
            chance_b = chance_localisation_iou(key.region_b2, clips=key.sequence_bjd.shape[1])
            metrics |= {"localisation_iou": iou_b.mean(), "localisation_iou_chance": chance_b.mean()}
        return metrics

    def warm_start(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Start both encoders from given backbone weights; see :class:`Objective`."""
        super().warm_start(state, source=source)
        self.key_encoder.load_state_dict(self.query_encoder.state_dict())

    @torch.no_grad()
    def after_step(self, staged_global: Tensor | None) -> None:
        """Move the key encoder once and enqueue the keys of the whole optimizer step once.

        Args:
            staged_global: staged keys of all ranks and micro-batches in global sample order, [N, D]; None
                only where there is no queue.

        Raises:
            ValueError: keys are missing, or given without a queue to hold them.
        """
        if (self.queue is None) != (staged_global is None):
            raise ValueError("after_step takes the staged keys exactly where the objective has a queue")
        self.momentum.update(self.key_encoder, self.query_encoder)
        if self.queue is not None and staged_global is not None:
            self.queue.enqueue(staged_global)

    @property
    def queue_fill(self) -> float:
        """Share of the queue that holds real keys."""
        return 1.0 if self.queue is None else self.queue.fill


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
