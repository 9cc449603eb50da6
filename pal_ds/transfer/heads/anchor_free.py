"""Anchor-free detection: assignment of moments to actions, losses, and decoding of scores and offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pal_ds.transfer.metrics.tiou import Floats

#: A moment answers for an action if it is within less than so many strides of its centre (ActionFormer section 3.3).
CENTRE_RADIUS = 1.5
#: Level l answers for actions whose farther end lies within [FIRST_RANGE * 2^(l-1), FIRST_RANGE * 2^l] snippets.
FIRST_RANGE = 4.0
#: Actions at most so many snippets longer than the shortest one are answered for together with it: THUMOS'14
#: annotates the same segment as Diving and as CliffDiving.
EQUAL_LENGTHS = 1e-3
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


@dataclass(frozen=True, kw_only=True)
class MomentTargets:
    """What the moments of a pyramid are trained on; stacked, every tensor has a leading batch axis.

    Attributes:
        wanted_pk: which classes a moment answers for, bool [P, K]: none, one, or several that share a segment.
        distances_p2: to its start and end, in units of the level's stride, float32 [P, 2].
    """

    wanted_pk: Tensor
    distances_p2: Tensor


def make_moment_targets(
    segments_n2: Floats,
    classes_n: NDArray[np.int64],
    place_p: Tensor,
    stride_p: Tensor,
    *,
    levels: int,
    classes: int,
) -> MomentTargets:
    """Assign actions to moments: inside the action, near its centre, at the level of its length; the shortest wins.

    The rules are those of ActionFormer's release (``label_points_single_video``), in float32 as there: strictly
    inside and strictly within the radius; both ends of a level's range count, so that a distance of exactly 4 is
    answered for at two levels; all classes of the shortest length answer together.

    Args:
        segments_n2: in snippets [N, 2]; may be empty.
        classes_n: their classes, 0 to K - 1 [N].
        place_p: of the moments, in snippets.
        stride_p: of their levels.
        levels: of the pyramid; the last has no upper end of range.
        classes: K.
    """
    count = len(place_p)
    if len(segments_n2) == 0:
        return MomentTargets(
            wanted_pk=torch.zeros(count, classes, dtype=torch.bool), distances_p2=torch.zeros(count, 2)
        )
    start_n, end_n = torch.from_numpy(segments_n2.astype(np.float32)).unbind(1)
    place_p1, reach_p1 = place_p[:, None], stride_p[:, None] * CENTRE_RADIUS
    centre_n = 0.5 * (start_n + end_n)
    after_first = place_p1 - torch.maximum(centre_n - reach_p1, start_n)
    before_last = torch.minimum(centre_n + reach_p1, end_n) - place_p1
    before_pn, after_pn = place_p1 - start_n, end_n - place_p1
    farther = torch.maximum(before_pn, after_pn)
    top = FIRST_RANGE * stride_p
    low = torch.where(stride_p == 1, torch.zeros_like(top), top / 2)
    high = torch.where(stride_p == 2 ** (levels - 1), torch.full_like(top, float("inf")), top)
    fits = torch.minimum(after_first, before_last) > 0
    fits &= (farther >= low[:, None]) & (farther <= high[:, None])
    length = torch.where(fits, (end_n - start_n).expand_as(fits), torch.full_like(before_pn, float("inf")))
    shortest, chosen = length.min(dim=1)
    together = fits & (length <= shortest[:, None] + EQUAL_LENGTHS)
    named_nk = F.one_hot(torch.from_numpy(classes_n), classes).to(torch.float32)
    row = torch.arange(count)
    distances = torch.stack([before_pn[row, chosen], after_pn[row, chosen]], dim=1) / stride_p[:, None]
    return MomentTargets(
        wanted_pk=(together.to(torch.float32) @ named_nk) > 0,
        distances_p2=torch.where(fits.any(dim=1)[:, None], distances, torch.zeros(count, 2)),
    )


def moment_loss(
    logits_bpk: Tensor, distances_bp2: Tensor, real_bp: Tensor, targets: MomentTargets
) -> dict[str, Tensor]:
    """Focal loss of every real moment's classes, and DIoU loss of the moments that answer for an action.

    Both are sums over the batch divided by the number of answering moments (ActionFormer eq. 4); without any, by one.

    Args:
        logits_bpk: [B, P, K].
        distances_bp2: to start and end in units of the level's stride [B, P, 2].
        real_bp: which moments are real, bool [B, P].
        targets: stacked.

    Returns:
        ``loss`` and its parts ``class`` and ``distance``.
    """
    answers = targets.wanted_pk.any(dim=2) & real_bp
    wanted = (targets.wanted_pk & answers.unsqueeze(2)).to(logits_bpk.dtype)
    number = answers.sum().clamp(min=1)
    classes = (focal(logits_bpk, wanted) * real_bp.unsqueeze(2)).sum() / number
    distance = diou_loss(distances_bp2[answers], targets.distances_p2[answers]).sum() / number
    return {"loss": classes + distance, "class": classes, "distance": distance}


def focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Sigmoid focal loss, elementwise (Lin et al., ICCV 2017, eq. 5)."""
    probability = logits.sigmoid()
    of_truth = torch.where(wanted > 0.5, probability, 1 - probability)
    weight = torch.where(wanted > 0.5, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return weight * (1 - of_truth) ** FOCAL_GAMMA * entropy


def diou_loss(found_n2: Tensor, wanted_n2: Tensor) -> Tensor:
    """1 - IoU + (distance of centres / length of the hull)^2 of segments around one moment (Zheng et al., AAAI 2020).

    Args:
        found_n2: distances to start and end [N, 2], not negative.
        wanted_n2: the same of the truth.
    """
    both = torch.minimum(found_n2, wanted_n2).sum(dim=1)
    hull = torch.maximum(found_n2, wanted_n2).sum(dim=1).clamp(min=1e-6)
    union = (found_n2.sum(dim=1) + wanted_n2.sum(dim=1) - both).clamp(min=1e-6)
    apart = ((found_n2[:, 1] - found_n2[:, 0]) - (wanted_n2[:, 1] - wanted_n2[:, 0])) / 2
    return 1 - both / union + (apart / hull).square()


def read_moments(
    logits_pk: Tensor,
    distances_p2: Tensor,
    real_p: Tensor,
    place_p: Tensor,
    stride_p: Tensor,
    *,
    most: int,
    least: float = 1e-3,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Turn a head's output for one piece into scored segments.

    Args:
        logits_pk: of one piece [P, K].
        distances_p2: in units of the level's stride.
        real_p: which moments are real.
        place_p: in snippets.
        stride_p: of their levels.
        most: candidates kept, by score.
        least: score below which one isn't kept.

    Returns:
        Segments in snippets [N, 2], scores [N] and classes [N], by falling score.
    """
    score_pk = logits_pk.sigmoid() * real_p.unsqueeze(1)
    score, flat = score_pk.flatten().sort(descending=True, stable=True)
    kept = int(((score > least).sum()).clamp(max=most))
    score, flat = score[:kept], flat[:kept]
    moment, named = flat // logits_pk.shape[1], flat % logits_pk.shape[1]
    reach = distances_p2[moment] * stride_p[moment].unsqueeze(1)
    segments = torch.stack([place_p[moment] - reach[:, 0], place_p[moment] + reach[:, 1]], dim=1)
    return segments.double().numpy(), score.double().numpy(), named.numpy()
