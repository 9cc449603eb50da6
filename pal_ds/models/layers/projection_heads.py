"""Heads on top of the backbone: projection, temporal convolutions, equi-transformation (section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pal_ds.models.layers.numerics import at_least_fp32, unit


class Projector(nn.Sequential):
    """The projection head F^n: linear layers with ReLU between them, clip by clip.

    Args:
        in_dim: the backbone's ``feature_dim``.
        out_dim: embedding size D.
        layers: number of linear layers, at least 1.
        hidden: width between the layers; 0 means ``in_dim``.
        batch_norm: BatchNorm before each ReLU.
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, layers: int = 2, hidden: int = 0, batch_norm: bool = False
    ) -> None:
        hidden = hidden or in_dim
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            parts.append(nn.Linear(in_dim, hidden, bias=not batch_norm))
            if batch_norm:
                parts.append(nn.BatchNorm1d(hidden))
            parts.append(nn.ReLU(inplace=True))
            in_dim = hidden
        parts.append(nn.Linear(in_dim, out_dim))
        super().__init__(*parts)


class TemporalHead(nn.Sequential):
    """The temporal head F^t: convolutions with kernel 3 along the clip axis that keep its length J.

    Args:
        dim: embedding size D.
        layers: 0 to 3; the receptive field is 1, 3, 5, 7 clips (Table 4).
        final_relu: ReLU after the last convolution too.
        batch_norm: BatchNorm after each convolution.
    """

    def __init__(
        self, dim: int, *, layers: int = 2, final_relu: bool = True, batch_norm: bool = False
    ) -> None:
        parts: list[nn.Module] = []
        for layer in range(layers):
            parts.append(nn.Conv1d(dim, dim, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                parts.append(nn.BatchNorm1d(dim))
            if layer < layers - 1 or final_relu:
                parts.append(nn.ReLU(inplace=True))
        super().__init__(*parts)

    def forward(self, embeddings_bjd: Tensor) -> Tensor:
        """Mix neighbouring clips; [B, J, D] in and out."""
        mixed_bdj = embeddings_bjd.transpose(1, 2)
        for layer in self:
            mixed_bdj = layer(mixed_bdj)
        return mixed_bdj.transpose(1, 2)


def region_mean(features_bjd: Tensor, region_b2: Tensor) -> Tensor:
    """Average the clips of each sample's region.

    Args:
        features_bjd: [B, J, D].
        region_b2: int64 (start, length) in clips, 1 <= length, start + length <= J; not checked, since a
            check would make the host wait.

    Returns:
        [B, D] in at least fp32.
    """
    features_bjd = at_least_fp32(features_bjd)
    clip_j = torch.arange(features_bjd.shape[1], device=features_bjd.device)
    start_b1, length_b1 = region_b2[:, :1], region_b2[:, 1:]
    inside_bj = (clip_j >= start_b1) & (clip_j < start_b1 + length_b1)
    return (features_bjd * inside_bj.unsqueeze(-1)).sum(dim=1) / length_b1


def region_embedding(features_bjd: Tensor, region_b2: Tensor, norm: str = "clip_and_region") -> Tensor:
    """The equi-transformation: cut the region out of the feature sequence and pool it (Eq. 6).

    Args:
        features_bjd: output of the temporal head, [B, J, D].
        region_b2: (start, length) of each sample's action region, in clips.
        norm: ``clip_and_region`` (the paper's norm of the clip features, then again after the average, so
            that dot products are cosines), ``region`` or ``clip``; see docs/decisions.md.

    Returns:
        Region vectors r, [B, D], fp32.
    """
    if norm != "region":
        features_bjd = unit(features_bjd)
    pooled_bd = region_mean(features_bjd, region_b2)
    return pooled_bd if norm == "clip" else unit(pooled_bd)
