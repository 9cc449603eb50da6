"""G-TAD: sub-graph localization for temporal action detection (Xu et al., CVPR 2020).

Layers and their names are those of the public release, whose two branches differ in sizes: with 400 channels in,
``map_kernel=1`` is the ActivityNet branch (5,563,268 parameters); with 2,048, ``inner_bins=16, context_bins=16`` the
THUMOS'14 one (5,617,540). SGAlign is a fixed sparse matrix here, no CUDA operator.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pal_ds.config.base import check, option
from pal_ds.config.heads import MapHeadConfig
from pal_ds.transfer.heads.boundary_map import valid_cells
from pal_ds.transfer.heads.sparse_sampling import SampledProjection


class GCNeXt(nn.Module):
    """One graph block: temporal edges as a grouped convolution, semantic edges from k nearest neighbours.

    Section 3.2: ``H(X) = ReLU(T(X) + S(X) + X)``; 32 paths of width 4.

    Args:
        channels: in and out.
        neighbours: k of the semantic graph.
        groups: paths.
        width_group: channels of a path.
    """

    def __init__(self, channels: int, *, neighbours: int = 3, groups: int = 32, width_group: int = 4) -> None:
        super().__init__()
        width = groups * width_group
        self.neighbours = neighbours
        self.tconvs = nn.Sequential(
            nn.Conv1d(channels, width, 1),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv1d(width, channels, 1),
        )
        self.sconvs = nn.Sequential(
            nn.Conv2d(channels * 2, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, channels, 1),
        )

    def forward(self, x_bct: Tensor) -> Tensor:
        """Update every snippet from its neighbours in time and in feature space [B, C, T]."""
        near = gather_neighbours(x_bct, nearest(x_bct, self.neighbours))
        pairs = torch.cat([near, x_bct.unsqueeze(3).expand_as(near)], dim=1)
        semantic = self.sconvs(pairs).amax(dim=3)
        return torch.relu(self.tconvs(x_bct) + x_bct + semantic)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GtadConfig(MapHeadConfig):
    """Options of G-TAD."""

    name: str = option("gtad", "gtad")
    inner_bins: int = option(32, "bins of an aligned candidate; released: ActivityNet 32, THUMOS'14 16")
    context_bins: int = option(
        4, "bins of its aligned semantic neighbours; released: ActivityNet 4, THUMOS'14 16"
    )
    map_kernel: int = option(
        3, "size of the inner map convolutions, odd; released: ActivityNet 1, THUMOS'14 3"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inner_bins", "context_bins"):
            check(getattr(self, name) >= 1, f"head.{name}", getattr(self, name), "use at least 1")
        odd = self.map_kernel >= 1 and self.map_kernel % 2 == 1
        check(odd, "head.map_kernel", self.map_kernel, "use an odd number from 1 up")

    def network(self, feature_dim: int) -> GTAD:
        """See :class:`MapHeadConfig`."""
        return GTAD(
            feature_dim,
            **self.map_sizes(),
            inner_bins=self.inner_bins,
            context_bins=self.context_bins,
            map_kernel=self.map_kernel,
        )


class GTAD(nn.Module):
    """Scores boundaries and every candidate segment of a sequence.

    Args:
        feature_dim: C, channels of the features; a multiple of 4.
        snippets: T; 100 on ActivityNet, 256 on THUMOS'14.
        durations: D; 100 and 64.
        hidden_1d: channels of the graph blocks, a multiple of 4.
        hidden_2d: channels of the map convolutions.
        hidden_3d: channels after alignment.
        neighbours: k of every semantic graph.
        inner_bins: bins of the aligned snippets (released: 32 for ActivityNet, 16 for THUMOS'14).
        context_bins: bins of the aligned semantic neighbours (released: 4; 16; an earlier release: 32).
        map_kernel: size of the two inner map convolutions, odd (released: 1 for ActivityNet, 3 for THUMOS'14).
        groups: paths of a graph block.
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        snippets: int = 100,
        durations: int = 100,
        hidden_1d: int = 256,
        hidden_2d: int = 128,
        hidden_3d: int = 512,
        neighbours: int = 3,
        inner_bins: int = 32,
        context_bins: int = 4,
        map_kernel: int = 3,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.feature_dim, self.snippets, self.durations = feature_dim, snippets, durations
        self.neighbours, self.inner_bins, self.context_bins = neighbours, inner_bins, context_bins
        self.backbone1 = nn.Sequential(
            nn.Conv1d(feature_dim, hidden_1d, 3, padding=1, groups=4),
            nn.ReLU(),
            GCNeXt(hidden_1d, neighbours=neighbours, groups=groups),
        )
        self.regu_s = _boundary_head(hidden_1d, neighbours, groups)
        self.regu_e = _boundary_head(hidden_1d, neighbours, groups)
        self.backbone2 = nn.Sequential(GCNeXt(hidden_1d, neighbours=neighbours, groups=groups))
        self.localization = nn.Sequential(
            nn.Conv2d(hidden_1d * (inner_bins + context_bins), hidden_3d, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_3d, hidden_2d, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, map_kernel, padding=map_kernel // 2),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, map_kernel, padding=map_kernel // 2),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, 2, 1),
            nn.Sigmoid(),
        )
        inner, cell = align_positions(snippets, durations, inner_bins)
        context, _ = align_positions(snippets, durations, context_bins)
        self.align_inner = SampledProjection(inner, snippets, outside="edge", cell_of_dt=cell)
        self.align_context = SampledProjection(context, snippets, outside="edge", cell_of_dt=cell)

    def forward(self, x_bct: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score a batch.

        Args:
            x_bct: features [B, C, T].

        Returns:
            Map [B, 2, D, T] (regressed overlap, then the probability of a match), start and end
            probabilities [B, T] each.
        """
        base = self.backbone1(x_bct)
        graph = self.backbone2(base)
        context = gather_neighbours(graph, nearest(graph, self.neighbours)).mean(dim=3)
        project = self.localization[0]
        assert isinstance(project, nn.Conv2d) and project.bias is not None
        # One channel of the aligned vector is (feature channel, bin), the context's bins after the inner ones.
        weight = project.weight.reshape(project.out_channels, -1, self.inner_bins + self.context_bins)
        maps = self.align_inner(graph, weight[:, :, : self.inner_bins])
        maps = (
            maps + self.align_context(context, weight[:, :, self.inner_bins :]) + project.bias[:, None, None]
        )
        return self.localization[1:](maps), self.regu_s(base).squeeze(1), self.regu_e(base).squeeze(1)


def nearest(x_bct: Tensor, neighbours: int) -> Tensor:
    """Give each snippet's nearest snippets in feature space (Euclidean, itself included) [B, T, k]."""
    with torch.no_grad():
        square = (x_bct * x_bct).sum(dim=1)
        distance = square.unsqueeze(1) + square.unsqueeze(2) - 2 * x_bct.transpose(1, 2) @ x_bct
        return distance.topk(min(neighbours, x_bct.shape[2]), dim=2, largest=False).indices


def gather_neighbours(x_bct: Tensor, index_btk: Tensor) -> Tensor:
    """Collect the features of neighbours [B, C, T, k]."""
    batch, channels, _ = x_bct.shape
    flat = index_btk.reshape(batch, 1, -1).expand(-1, channels, -1)
    return x_bct.gather(2, flat).reshape(batch, channels, *index_btk.shape[1:])


def _boundary_head(hidden: int, neighbours: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        GCNeXt(hidden, neighbours=neighbours, groups=groups), nn.Conv1d(hidden, 1, 1), nn.Sigmoid()
    )


def align_positions(
    snippets: int, durations: int, bins: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Place the samples of SGAlign (Algorithm 1): each candidate, widened by half its length on both sides.

    A bin averages ``ceil(length / bins)`` samples at the centres of equal parts.

    Returns:
        Positions in snippets [V + 1, N, S], NaN beyond a candidate's number of samples; void cells show the last
        candidate, the first snippet. And the candidate shown by each cell [D, T].
    """
    valid = valid_cells(durations, snippets)
    length, start = np.nonzero(valid)
    first = np.append(start - (length + 1) * 0.5, 0.0)
    last = np.append(start + length + (length + 1) * 0.5, 0.0)
    extent = np.maximum(last - first, 1.0)
    parts = np.ceil(extent / bins).astype(np.int64)
    number = np.arange(parts.max())
    within = np.where(number < parts[:, None], (number + 0.5) / parts[:, None], np.nan)
    positions = first[:, None, None] + (extent / bins)[:, None, None] * (
        np.arange(bins)[None, :, None] + within[:, None, :]
    )
    cell = np.full(valid.shape, len(length), dtype=np.int64)
    cell[valid] = np.arange(len(length))
    return positions, cell
