"""Cross-entropy of a pretext task, what a sample contributes to it, and what a blind guess would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pal_ds.models.layers.numerics import at_least_fp32, full_precision


@dataclass(frozen=True, kw_only=True)
class Classified:
    """Loss and hits of a batch whose samples have N rows each.

    Attributes:
        loss: scalar with gradient, mean over samples.
        loss_b: each sample's mean loss, detached, [B].
        hit_b: each sample's share of rows that were told right, [B].
        guess: scalar, the loss of a network that finds every class equally likely: ln K for a row that counts.
        classes: K.
    """

    loss: Tensor
    loss_b: Tensor
    hit_b: Tensor
    guess: Tensor
    classes: int


def classified(logits_bnk: Tensor, target_bn: Tensor, *, label_smoothing: float = 0.0) -> Classified:
    """Cross-entropy of every row against its class, in at least fp32 whatever autocast is active.

    Args:
        logits_bnk: [B, N, K].
        target_bn: int64 class of every row, -1 where a row counts for nothing. Such a row still counts in the mean,
            as 0: the loss of a batch is then the mean of the losses of its parts, however ranks divide it.
        label_smoothing: share of the target that is spread over all classes.
    """
    counted_bn = target_bn >= 0
    with full_precision(logits_bnk):
        loss_bn = F.cross_entropy(
            at_least_fp32(logits_bnk).flatten(0, 1),
            target_bn.flatten(),
            ignore_index=-1,
            reduction="none",
            label_smoothing=label_smoothing,
        ).view_as(target_bn)
        loss_b = loss_bn.mean(dim=1)
    with torch.no_grad():
        hit_bn = (logits_bnk.argmax(dim=2) == target_bn) & counted_bn
        counted = counted_bn.to(loss_b.dtype).mean()
    return Classified(
        loss=loss_b.mean(),
        loss_b=loss_b.detach(),
        hit_b=hit_bn.to(loss_b.dtype).mean(dim=1),
        guess=counted * math.log(logits_bnk.shape[2]),
        classes=logits_bnk.shape[2],
    )
