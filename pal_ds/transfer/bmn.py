"""BMN: Boundary-Matching Network for temporal action proposals (Lin et al., ICCV 2019).

Layers and their names are those of the public releases, so that their weights load.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pal_ds.transfer.boundary_map import valid_cells
from pal_ds.transfer.sparse_sampling import SampledProjection


class BMN(nn.Module):
    """Scores boundaries and every candidate segment of a sequence.

    Args:
        feature_dim: C, channels of the features; a multiple of 4.
        snippets: T, length of the sequence; 100 in the paper.
        durations: D, longest candidate in snippets; 100 in the paper.
        hidden_1d: channels of the temporal convolutions, a multiple of 4.
        hidden_2d: channels of the map convolutions.
        hidden_3d: channels after the sampled features are merged.
        samples: N, points sampled from a candidate.
        samples_per_bin: positions averaged for one point.
        context: how much of a candidate's length is added on each side before sampling (released: 0.5).
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
        samples: int = 32,
        samples_per_bin: int = 3,
        context: float = 0.5,
    ) -> None:
        super().__init__()
        self.feature_dim, self.snippets, self.durations = feature_dim, snippets, durations
        self.x_1d_b = nn.Sequential(
            nn.Conv1d(feature_dim, hidden_1d, 3, padding=1, groups=4),
            nn.ReLU(),
            nn.Conv1d(hidden_1d, hidden_1d, 3, padding=1, groups=4),
            nn.ReLU(),
        )
        self.x_1d_s = _boundary_head(hidden_1d)
        self.x_1d_e = _boundary_head(hidden_1d)
        self.x_1d_p = nn.Sequential(nn.Conv1d(hidden_1d, hidden_1d, 3, padding=1), nn.ReLU())
        self.x_3d_p = nn.Sequential(nn.Conv3d(hidden_1d, hidden_3d, (samples, 1, 1)), nn.ReLU())
        self.x_2d_p = nn.Sequential(
            nn.Conv2d(hidden_3d, hidden_2d, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, hidden_2d, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_2d, 2, 1),
            nn.Sigmoid(),
        )
        positions, cell = sample_positions(snippets, durations, samples, samples_per_bin, context)
        self.matching = SampledProjection(positions, snippets, outside="zero", cell_of_dt=cell)

    def forward(self, x_bct: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score a batch.

        Args:
            x_bct: features [B, C, T].

        Returns:
            Map [B, 2, D, T] (regressed overlap, then the probability of a match), start and end
            probabilities [B, T] each.
        """
        base = self.x_1d_b(x_bct)
        merge = self.x_3d_p[0]
        assert isinstance(merge, nn.Conv3d) and merge.bias is not None
        maps = self.matching(self.x_1d_p(base), merge.weight.flatten(2))
        maps = torch.relu(maps + merge.bias[:, None, None])
        return self.x_2d_p(maps), self.x_1d_s(base).squeeze(1), self.x_1d_e(base).squeeze(1)


def _boundary_head(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(hidden, hidden, 3, padding=1, groups=4), nn.ReLU(), nn.Conv1d(hidden, 1, 1), nn.Sigmoid()
    )


def sample_positions(
    snippets: int, durations: int, samples: int, per_bin: int, context: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Place the samples of the Boundary-Matching layer (BMN section 3.2, as released).

    Returns:
        Positions in snippets [V + 1, N, S], the last candidate without samples for void cells; and the
        candidate shown by each cell [D, T].
    """
    valid = valid_cells(durations, snippets)
    length, start = np.nonzero(valid)
    first = start - (length + 1) * context
    last = start + length + (length + 1) * context
    steps = np.linspace(0.0, 1.0, samples * per_bin)
    positions = (first[:, None] + (last - first)[:, None] * steps).reshape(-1, samples, per_bin)
    void = np.full((1, samples, per_bin), np.nan)
    cell = np.full(valid.shape, len(length), dtype=np.int64)
    cell[valid] = np.arange(len(length))
    return np.concatenate([positions, void]), cell
