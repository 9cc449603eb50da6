"""Cross-entropy of a pretext task, and what a sample contributes to it."""

from __future__ import annotations

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
    """

    loss: Tensor
    loss_b: Tensor
    hit_b: Tensor


def classified(logits_bnk: Tensor, target_bn: Tensor) -> Classified:
    """Cross-entropy of every row against its class, in at least fp32 whatever autocast is active.

    Args:
        logits_bnk: [B, N, K].
        target_bn: int64 class of every row, -1 where a row counts for nothing. Such a row still counts in the mean,
            as 0: the loss of a batch is then the mean of the losses of its parts, however ranks divide it.
    """
    counted_bn = target_bn >= 0
    with full_precision(logits_bnk):
        loss_bn = F.cross_entropy(
            at_least_fp32(logits_bnk).flatten(0, 1), target_bn.flatten(), ignore_index=-1, reduction="none"
        ).view_as(target_bn)
        loss_b = loss_bn.mean(dim=1)
    hit_bn = (logits_bnk.detach().argmax(dim=2) == target_bn) & counted_bn
    return Classified(loss=loss_b.mean(), loss_b=loss_b.detach(), hit_b=hit_bn.to(loss_b.dtype).mean(dim=1))


def guess(share_k: Tensor) -> dict[str, Tensor]:
    """What a network scores that knows how often each class comes and nothing else: ``chance_loss``, ``chance_top1``.

    Args:
        share_k: share of every class, adding up to 1.
    """
    kept = share_k > 0
    entropy = -(share_k * torch.where(kept, share_k, torch.ones_like(share_k)).log()).sum()
    return {"chance_loss": entropy, "chance_top1": share_k.max()}
