"""InfoNCE (Eq. 7) with its running diagnostics, in at least fp32 whatever autocast is active."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pal_ds.models.layers.numerics import at_least_fp32, full_precision


@dataclass(frozen=True, kw_only=True)
class ContrastiveResult:
    """Loss of a batch and what it says about the embedding.

    Attributes:
        loss: scalar with gradient, mean over the batch.
        metrics: detached scalars: ``positive_similarity`` and ``negative_similarity`` (mean dot products,
            cosines for unit vectors), ``top1`` (share of queries whose positive beats every negative) and
            ``negatives`` (how many a query had).
    """

    loss: Tensor
    metrics: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ContrastRows:
    """InfoNCE of every query of a batch, each tensor [B], at least fp32; only the loss has a gradient.

    Attributes:
        loss_b: -log of the share that the positive has.
        hit_b: 1 where the positive is more similar than every negative; a tie is a miss.
        positive_b: similarity to the positive.
        negative_b: mean similarity to the negatives that count; 0 where there is none.
        negatives_b: how many negatives count. A query that knows nothing has the loss ln(1 + negatives).
    """

    loss_b: Tensor
    hit_b: Tensor
    positive_b: Tensor
    negative_b: Tensor
    negatives_b: Tensor


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
    rows = contrast_rows(
        query_bd,
        key_bd,
        negatives_nd,
        temperature=temperature,
        excluded=excluded,
        log_weights_n=log_weights_n,
    )
    return ContrastiveResult(
        loss=rows.loss_b.mean(),
        metrics={
            "positive_similarity": rows.positive_b.mean(),
            "negative_similarity": rows.negative_b.mean(),
            "top1": rows.hit_b.mean(),
            "negatives": rows.negatives_b.mean(),
        },
    )


def contrast_rows(
    query_bd: Tensor,
    key_bd: Tensor,
    negatives_nd: Tensor,
    *,
    temperature: float,
    excluded: Tensor | None = None,
    log_weights_n: Tensor | None = None,
) -> ContrastRows:
    """Contrast each query with its key, one figure a query; arguments as in :func:`info_nce`."""
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
        loss_b = F.cross_entropy(logits_bn, target_b, reduction="none")
    with torch.no_grad():
        count_b = torch.full_like(loss_b, negative_bn.shape[1])
        kept_bn = negative_bn
        if excluded is not None:
            count_b = (~excluded).sum(dim=1).to(loss_b.dtype)
            kept_bn = negative_bn.masked_fill(excluded, 0)
        return ContrastRows(
            loss_b=loss_b,
            hit_b=(positive_b1 > masked_bn).all(dim=1).to(loss_b.dtype),
            positive_b=positive_b1.squeeze(1).detach(),
            negative_b=kept_bn.sum(dim=1).detach() / count_b.clamp(min=1),
            negatives_b=count_b,
        )
