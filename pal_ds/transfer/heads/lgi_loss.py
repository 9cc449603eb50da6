"""The loss of LGI: the span, the temporal attention, and phrases that read different words (section 3.6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pal_ds.transfer.heads.lgi import GroundingOutput

EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class GroundingLoss:
    """The parts of the loss, each a scalar; ``total`` is their weighted sum."""

    total: Tensor
    span: Tensor
    attention: Tensor
    distinct: Tensor


def grounding_loss(
    output: GroundingOutput,
    span_b2: Tensor,
    inside_bt: Tensor,
    *,
    attention_weight: float = 1.0,
    distinct_weight: float = 1.0,
    distinct_lambda: float = 0.3,
) -> GroundingLoss:
    """Compute the loss of a batch (Eq. 16 to 19).

    Args:
        output: of LGI.
        span_b2: true start and end as shares of the video [B, 2].
        inside_bt: True for segments inside the true span, at least one a row [B, T].
        attention_weight: of the temporal attention guidance.
        distinct_weight: of the distinct query attention.
        distinct_lambda: overlap of the phrases' attentions that is let be; 0.3 in the release for Charades.
    """
    span = F.smooth_l1_loss(output.span_b2[:, 0], span_b2[:, 0])
    span = span + F.smooth_l1_loss(output.span_b2[:, 1], span_b2[:, 1])
    attention = attention_guidance(output.segment_weight_bt, inside_bt)
    distinct = distinct_attention(output.word_weight_bnl, distinct_lambda)
    total = span + attention_weight * attention + distinct_weight * distinct
    return GroundingLoss(total=total, span=span, attention=attention, distinct=distinct)


def attention_guidance(weight_bt: Tensor, inside_bt: Tensor) -> Tensor:
    """Mean negative log attention of the segments inside the span (Eq. 18)."""
    inside = inside_bt.to(weight_bt.dtype)
    return (-(inside * torch.log(weight_bt + EPSILON)).sum(dim=1) / inside.sum(dim=1)).mean()


def distinct_attention(weight_bnl: Tensor, overlap: float) -> Tensor:
    """Squared Frobenius norm of ``A Aᵀ - overlap · I``: phrases shall read different words (Eq. 19)."""
    gram = weight_bnl @ weight_bnl.transpose(1, 2)
    identity = torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
    return (gram - overlap * identity).square().sum(dim=(1, 2)).mean()
