"""The loss that BMN and G-TAD share: boundaries, regressed overlap, probability of a match."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pal_ds.transfer.heads.boundary_map import MapTargets

EPSILON = 1e-6
BOUNDARY_POSITIVE = 0.5
MATCH_POSITIVE = 0.9
HIGH_OVERLAP = 0.7
LOW_OVERLAP = 0.3


@dataclass(frozen=True, kw_only=True)
class MapLoss:
    """The parts of the loss, each a scalar; ``total`` is their weighted sum."""

    total: Tensor
    boundary: Tensor
    overlap: Tensor
    match: Tensor


def map_loss(
    maps_b2dt: Tensor,
    start_bt: Tensor,
    end_bt: Tensor,
    targets: MapTargets,
    valid_dt: Tensor,
    *,
    overlap_weight: float = 10.0,
    match_weight: float = 1.0,
    match_prior: float = 0.0,
    generator: torch.Generator | None = None,
) -> MapLoss:
    """Compute the loss of a batch (BMN section 4.2, Eq. 4 to 7; G-TAD section 3.4).

    Args:
        maps_b2dt: regressed overlap and match probability [B, 2, D, T].
        start_bt: start probabilities [B, T].
        end_bt: end probabilities [B, T].
        targets: with a leading batch axis.
        valid_dt: 1 for cells that exist, 0 for void ones [D, T].
        overlap_weight: λ of the regressed overlap; 10 in both papers.
        match_weight: of the match loss; 1 in both papers. G-TAD's THUMOS'14 branch has 1 and 10 the other way
            round.
        match_prior: see :func:`balanced_log_loss`; for the match loss.
        generator: draws the balanced sample of the overlap loss; on the maps' device.
    """
    overlap_bdt = targets.iou_dt * valid_dt
    boundary = balanced_log_loss(start_bt, targets.start_t > BOUNDARY_POSITIVE)
    boundary = boundary + balanced_log_loss(end_bt, targets.end_t > BOUNDARY_POSITIVE)
    overlap = overlap_loss(maps_b2dt[:, 0], overlap_bdt, valid_dt, generator=generator)
    valid_bdt = valid_dt.bool().expand_as(overlap_bdt)
    match = balanced_log_loss(
        maps_b2dt[:, 1][valid_bdt], overlap_bdt[valid_bdt] > MATCH_POSITIVE, prior=match_prior
    )
    total = boundary + overlap_weight * overlap + match_weight * match
    return MapLoss(total=total, boundary=boundary, overlap=overlap, match=match)


def balanced_log_loss(probability: Tensor, positive: Tensor, *, prior: float = 0.0) -> Tensor:
    """Logistic loss in which positives and negatives weigh the same in sum (BSN Eq. 5, BMN Eq. 5).

    A batch without positives (or without negatives) is weighted as if it held one; the papers' expression
    divides by zero there.

    Args:
        probability: predictions in (0, 1), any shape.
        positive: their classes, bool, same shape.
        prior: added to the numbers of positives and of negatives (G-TAD's THUMOS'14 branch: 10).
    """
    entries = positive.numel() + 2 * prior
    positives = (positive.sum() + prior).clamp(min=1, max=max(entries - 1, 1))
    ratio = entries / positives
    weight_1 = 0.5 * ratio
    weight_0 = 0.5 * ratio / (ratio - 1).clamp(min=EPSILON)
    log_1 = weight_1 * torch.log(probability + EPSILON)
    log_0 = weight_0 * torch.log(1.0 - probability + EPSILON)
    return -torch.where(positive, log_1, log_0).mean() * (positive.numel() / entries)


def overlap_loss(
    predicted_bdt: Tensor, overlap_bdt: Tensor, valid_dt: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Half the squared error over all cells of high overlap and as many of middle and of low overlap.

    High is above 0.7, middle above 0.3, low above 0 (BMN section 4.2); middle and low ones are drawn at random so
    that each counts about as many as high ones.

    Args:
        predicted_bdt: regressed overlaps [B, D, T].
        overlap_bdt: true ones [B, D, T].
        valid_dt: 1 for cells that exist [D, T].
        generator: for the draw.
    """
    high = overlap_bdt > HIGH_OVERLAP
    middle = (overlap_bdt > LOW_OVERLAP) & ~high
    low = (overlap_bdt > 0) & (overlap_bdt <= LOW_OVERLAP) & valid_dt.bool()
    chosen = high.float()
    for group in (middle, low):
        rate = high.sum() / group.sum().clamp(min=1)
        draw = torch.rand(group.shape, generator=generator, device=group.device)
        chosen = chosen + (group & (draw > 1.0 - rate)).float()
    squared = (predicted_bdt - overlap_bdt).square() * chosen
    return 0.5 * squared.sum() / chosen.sum().clamp(min=1.0)
