"""A head in one file, then the real command: ``own_head.py --task apg --config FILE head.name=separable``."""

from __future__ import annotations

import dataclasses
import sys

import torch
from torch import Tensor, nn

from pal_ds.config.base import check, option
from pal_ds.config.heads import HEADS, HeadChoice, MapHeadConfig


class Separable(nn.Module):
    """Scores a candidate by what stands at its start and at its end."""

    def __init__(self, feature_dim: int, *, durations: int, hidden: int) -> None:
        super().__init__()
        self.durations = durations
        self.trunk = nn.Sequential(nn.Conv1d(feature_dim, hidden, 3, padding=1), nn.ReLU())
        self.boundary = nn.Conv1d(hidden, 2, 1)
        self.score = nn.Conv2d(2 * hidden, 2, 1)

    def forward(self, x_bct: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps [B, 2, D, T], starts and ends [B, T], all in (0, 1)."""
        hidden_bct = self.trunk(x_bct)
        start_bt, end_bt = self.boundary(hidden_bct).sigmoid().unbind(dim=1)
        ends = [hidden_bct.roll(-step, dims=2) for step in range(1, self.durations + 1)]
        both = torch.cat((torch.stack([hidden_bct] * self.durations, dim=2), torch.stack(ends, dim=2)), dim=1)
        return self.score(both).sigmoid(), start_bt, end_bt


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparableConfig(MapHeadConfig):
    """Its options: those of every head that scores a map, and one of its own."""

    name: str = option("separable", "separable")
    own: int = option(16, "hidden channels")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.own >= 1, "head.own", self.own, "use at least 1")

    def network(self, feature_dim: int) -> Separable:
        """See :class:`MapHeadConfig`."""
        return Separable(feature_dim, durations=self.durations, hidden=self.own)


HEADS.add(
    HeadChoice(
        name="separable",
        build=f"{__name__}:SeparableConfig",
        task="pal_ds.transfer.tasks.boundary_map_detection:MapTask",
        tasks=("apg", "tad"),
    )
)

if __name__ == "__main__":
    from pal_ds.cli.transfer import main

    sys.exit(main())
