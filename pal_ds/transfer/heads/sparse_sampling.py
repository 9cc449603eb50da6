"""Sampling features along time at fixed places, and the convolution over the samples, as one sparse product.

BMN samples N points of every candidate segment and convolves over them; G-TAD aligns sub-graphs and projects
them. Both are linear: ``Σ_n W_n (x · M_n)`` with a fixed matrix M. Applying W first and M after gives the same
numbers, needs no [C, N, D, T] tensor (1.3 GB for four videos) and, M being sparse, a small part of the work.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]


class _Product(torch.autograd.Function):
    """``M @ dense`` whose gradient is ``Mᵀ @ gradient``; both matrices in CSR form."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed @ gradients[0].contiguous(), None, None


class SampledProjection(nn.Module):
    """Sample each candidate's bins from a sequence and project bins × channels to one vector per candidate.

    Args:
        positions_vns: sample positions of candidate v, bin n, in snippets [V, N, S]; NaN where a bin has fewer
            samples. Values beyond the sequence follow ``outside``.
        snippets: T, length of the sequence.
        outside: ``zero``: a neighbour beyond the sequence counts as 0 (BMN); ``edge``: positions up to one
            snippet beyond take the edge's value, further ones 0 (RoIAlign, G-TAD). In both a position less than
            one snippet before the first takes the first (the releases truncate toward zero).
        cell_of_dt: number of the candidate that each cell of the map shows [D, T].
    """

    crow: Tensor
    column: Tensor
    value: Tensor
    back_crow: Tensor
    back_column: Tensor
    back_value: Tensor
    cell: Tensor

    def __init__(
        self, positions_vns: Floats, snippets: int, *, outside: str, cell_of_dt: NDArray[np.int64]
    ) -> None:
        super().__init__()
        self.candidates, self.bins, _ = positions_vns.shape
        self.snippets = snippets
        self.map_shape = tuple(int(size) for size in cell_of_dt.shape)
        row, column, value = _weights(positions_vns, snippets, outside)
        for name, rows, columns, height in (
            ("", row, column, self.candidates),
            ("back_", column, row, self.bins * snippets),
        ):
            crow, order, weight = _compress(rows, columns, value, height)
            self.register_buffer(f"{name}crow", torch.from_numpy(crow), persistent=False)
            self.register_buffer(f"{name}column", torch.from_numpy(order), persistent=False)
            self.register_buffer(f"{name}value", torch.from_numpy(weight).float(), persistent=False)
        self.register_buffer("cell", torch.from_numpy(cell_of_dt.reshape(-1)), persistent=False)

    def forward(self, x_bct: Tensor, weight_ocn: Tensor) -> Tensor:
        """Sample and project.

        Args:
            x_bct: sequences [B, C, T].
            weight_ocn: projection, for every bin [O, C, N].

        Returns:
            Maps [B, O, D, T], no bias added.
        """
        batch, _, snippets = x_bct.shape
        out = weight_ocn.shape[0]
        projected = torch.einsum("bct,ocn->ntbo", x_bct.float(), weight_ocn.float())
        dense = projected.reshape(self.bins * snippets, batch * out)
        shape = (self.candidates, self.bins * snippets)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            matrix = _matrix(self.crow, self.column, self.value, shape)
            back = _matrix(self.back_crow, self.back_column, self.back_value, shape[::-1])
        sampled: Tensor = _Product.apply(dense, matrix, back)  # type: ignore[no-untyped-call]
        maps = sampled.index_select(0, self.cell).reshape(*self.map_shape, batch, out)
        return maps.permute(2, 3, 0, 1)


def _matrix(crow: Tensor, column: Tensor, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.sparse_csr_tensor(crow, column, value, shape, check_invariants=False)


def _compress(
    row: NDArray[np.int64], column: NDArray[np.int64], value: Floats, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Bring entries into CSR form: row pointers, columns ascending in each row, values; repeats are added up."""
    width = int(column.max(initial=0)) + 1
    place, first = np.unique(row * width + column, return_inverse=True)
    total: Floats = np.bincount(first, weights=value, minlength=len(place)).astype(np.float64)
    crow = np.searchsorted(place // width, np.arange(height + 1))
    column = place % width
    return crow.astype(np.int64), column, total


def _weights(
    positions_vns: Floats, snippets: int, outside: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Linear interpolation weights: row (candidate), column (bin · T + snippet), value; repeats add up."""
    used = np.isfinite(positions_vns)
    count = used.sum(axis=2, keepdims=True)
    place = np.where(used, positions_vns, 0.0)
    share = np.where(used, 1.0 / np.maximum(count, 1), 0.0)
    if outside == "edge":
        share = np.where((place < -1.0) | (place > snippets), 0.0, share)
        place = np.clip(place, 0.0, snippets - 1.0)
    place = np.where((place > -1.0) & (place < 0.0), 0.0, place)
    low = np.floor(place).astype(np.int64)
    fraction = place - low
    rows, columns, values = [], [], []
    row, bin_number = np.broadcast_arrays(
        np.arange(place.shape[0])[:, None, None], np.arange(place.shape[1])[None, :, None]
    )
    row, bin_number = np.broadcast_to(row, place.shape), np.broadcast_to(bin_number, place.shape)
    for snippet, weight in ((low, share * (1.0 - fraction)), (low + 1, share * fraction)):
        keep = (weight > 0) & (snippet >= 0) & (snippet < snippets)
        rows.append(row[keep])
        columns.append(bin_number[keep] * snippets + snippet[keep])
        values.append(weight[keep])
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
