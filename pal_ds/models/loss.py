"""InfoNCE (Eq. 7) with its running diagnostics, in at least fp32 whatever autocast is active."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pal_ds.models.numerics import at_least_fp32, full_precision


@dataclass(frozen=True, kw_only=True)
class ContrastiveResult:
    """Loss of a batch and what it says about the embedding.

    Attributes:
        loss: scalar with gradient, mean over the batch.
        metrics: detached scalars: ``positive_similarity`` and ``negative_similarity`` (mean dot products,
            cosines for unit vectors) and ``top1`` (share of queries whose positive beats every negative).
    """

    loss: Tensor
    metrics: dict[str, Tensor]


def info_nce(
    query_bd: Tensor,
    key_bd: Tensor,
    negatives_nd: Tensor,
    *,
    temperature: float,
    excluded: Tensor | None = None,
    log_weights_n: Tensor | None = None,
) -> ContrastiveResult:
    """Contrast each query with its key against shared negatives.

    Args:
        query_bd: [B, D], with gradient.
        key_bd: the positives, [B, D].
        negatives_nd: [N, D].
        temperature: tau.
        excluded: bool [N] or [B, N], True where a negative does not count.
        log_weights_n: log of each negative's weight in the sum; None weighs all alike.

    Returns:
        Loss -log(exp(q.k/tau) / (exp(q.k/tau) + sum_n exp(q.n/tau))), averaged over the batch. With nothing
        to contrast against it is 0.
    """
    with full_precision(query_bd):
        query_bd, key_bd = at_least_fp32(query_bd), at_least_fp32(key_bd)
        positive_b1 = (query_bd * key_bd).sum(dim=1, keepdim=True)
        negative_bn = query_bd @ at_least_fp32(negatives_nd).to(query_bd.dtype).T
        if excluded is not None:
            excluded = excluded.expand_as(negative_bn)
            masked_bn = negative_bn.masked_fill(excluded, float("-inf"))
        else:
            masked_bn = negative_bn
        logits_bn = torch.cat((positive_b1, masked_bn), dim=1) / temperature
        if log_weights_n is not None:
            logits_bn = logits_bn + F.pad(log_weights_n, (1, 0))
        target_b = torch.zeros(len(logits_bn), dtype=torch.int64, device=logits_bn.device)
        loss = F.cross_entropy(logits_bn, target_b)
    with torch.no_grad():
        metrics = {
            "positive_similarity": positive_b1.mean(),
            "negative_similarity": _masked_mean(negative_bn, excluded),
            "top1": (positive_b1 > masked_bn).all(dim=1).to(positive_b1.dtype).mean(),
        }
    return ContrastiveResult(loss=loss, metrics=metrics)


def _masked_mean(values: Tensor, excluded: Tensor | None) -> Tensor:
    if excluded is None:
        return values.mean()
    return values.masked_fill(excluded, 0).sum() / (~excluded).sum().clamp(min=1)
