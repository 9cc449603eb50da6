"""How good an embedding is, beyond its loss: collapse, alignment, uniformity, equivariance."""

from __future__ import annotations

import torch
from torch import Tensor

from pal_ds.models.layers.numerics import at_least_fp32, unit


def feature_std(features_nd: Tensor) -> Tensor:
    """Standard deviation over the batch, averaged over dimensions.

    0 means collapse to one point; unit vectors spread evenly over the sphere give 1 / sqrt(D).
    """
    return at_least_fp32(features_nd).std(dim=0, correction=0).mean()


def alignment(query_nd: Tensor, key_nd: Tensor) -> Tensor:
    """Mean squared distance of positive pairs of unit vectors; 0 is best (Wang and Isola, 2020)."""
    return (unit(query_nd) - unit(key_nd)).square().sum(dim=-1).mean()


def uniformity(features_nd: Tensor, *, scale: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential of all pairs of unit vectors; 0 is collapse, lower is more uniform.

    Raises:
        ValueError: fewer than two vectors.
    """
    if len(features_nd) < 2:
        raise ValueError(f"uniformity needs at least 2 vectors, got {len(features_nd)}")
    squared_p = torch.pdist(unit(features_nd)).square()
    return torch.logsumexp(-scale * squared_p, dim=0) - torch.log(
        torch.tensor(float(squared_p.numel()), dtype=squared_p.dtype, device=squared_p.device)
    )


def windows(clips: int, device: torch.device | None = None) -> Tensor:
    """Every (start, length) within a sequence, int64 [clips * (clips + 1) / 2, 2], longest first."""
    rows = [(start, size) for size in range(clips, 0, -1) for start in range(clips - size + 1)]
    return torch.tensor(rows, dtype=torch.int64, device=device)


def window_embeddings(sequence_bjd: Tensor, norm: str = "clip_and_region") -> Tensor:
    """Region vector of every window, [B, windows, D], pooled and normalised as the objective does."""
    sequence_bjd = at_least_fp32(sequence_bjd) if norm == "region" else unit(sequence_bjd)
    window_w2 = windows(sequence_bjd.shape[1], sequence_bjd.device)
    clip_j = torch.arange(sequence_bjd.shape[1], device=sequence_bjd.device)
    inside_wj = (clip_j >= window_w2[:, :1]) & (clip_j < window_w2.sum(dim=1, keepdim=True))
    # A product and a sum rather than a matrix product, which autocast would run in half precision.
    sums_bwd = (inside_wj[None, :, :, None] * sequence_bjd[:, None]).sum(dim=2)
    return unit(sums_bwd / window_w2[:, 1:].to(sums_bwd.dtype))


def best_window(query_bd: Tensor, sequence_bjd: Tensor, norm: str = "clip_and_region") -> Tensor:
    """Window of each sequence that is most similar to the query, int64 (start, length) [B, 2].

    Among exact ties the longest and then the earliest window wins.
    """
    similarity_bw = (window_embeddings(sequence_bjd, norm) * unit(query_bd)[:, None]).sum(dim=-1)
    return windows(sequence_bjd.shape[1], sequence_bjd.device)[similarity_bw.argmax(dim=1)]


def region_iou(first_b2: Tensor, second_b2: Tensor) -> Tensor:
    """Temporal IoU of (start, length) pairs, float [B]; shapes broadcast."""
    first_end, second_end = first_b2.sum(dim=-1), second_b2.sum(dim=-1)
    overlap = torch.minimum(first_end, second_end) - torch.maximum(first_b2[..., 0], second_b2[..., 0])
    overlap = overlap.clamp(min=0)
    return overlap / (first_b2[..., 1] + second_b2[..., 1] - overlap)


def localisation_iou(
    query_bd: Tensor, sequence_bjd: Tensor, region_b2: Tensor, norm: str = "clip_and_region"
) -> Tensor:
    """Does the query region find itself in the other video? IoU of the best-matching window, [B].

    This is what PAL trains for: features of a pasted action must single out its place in another video.

    Args:
        query_bd: region vectors of the query view.
        sequence_bjd: clip features of the key view, before any norm.
        region_b2: true (start, length) in the key view.
        norm: the objective's norm position.
    """
    return region_iou(best_window(query_bd, sequence_bjd, norm), region_b2)


def chance_localisation_iou(region_b2: Tensor, *, clips: int) -> Tensor:
    """Expected IoU of a window drawn uniformly from all windows, [B]: what no skill scores."""
    return region_iou(windows(clips, region_b2.device), region_b2[:, None]).mean(dim=1)
