"""The grid of candidate segments that BMN and G-TAD score, its targets and its reading as proposals.

Cell (i, j) of a map [D, T] is the segment that starts at snippet j and lasts i + 1 snippets: ``[j, j + i + 1] / T``
of the covered time. Cells that would end after the last snippet are void.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pal_ds.transfer.metrics.tiou import Bools, Floats, tiou

#: Length, in snippets, of the zone around an annotated start or end in which the boundary counts as hit (BSN).
BOUNDARY_ZONE = 3.0
#: What boundary i stands for, in snippets from i (BMN).
BMN_UNIT = (-0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class MapTargets:
    """What a boundary map is trained on; stacked, every tensor has a leading batch axis.

    Attributes:
        start_t: share of each boundary's unit that lies in the zone of an annotated start [T].
        end_t: the same of annotated ends [T].
        iou_dt: overlap of each cell with the annotated segment it overlaps most [D, T]; 0 in void cells.
    """

    start_t: Tensor
    end_t: Tensor
    iou_dt: Tensor


def valid_cells(durations: int, snippets: int) -> Bools:
    """Say which cells of a map [D, T] end within the covered time."""
    end = np.arange(snippets)[None] + np.arange(1, durations + 1)[:, None]
    return end <= snippets


def cell_segments(durations: int, snippets: int) -> Floats:
    """Give every cell's segment as shares of the covered time [D, T, 2]; void cells reach beyond 1."""
    start = np.broadcast_to(np.arange(snippets)[None], (durations, snippets))
    end = start + np.arange(1, durations + 1)[:, None]
    return np.stack([start, end], axis=2) / float(snippets)


def make_targets(
    segments_n2: Floats, durations: int, snippets: int, unit: tuple[float, float] = BMN_UNIT
) -> MapTargets:
    """Make the targets of one covered time (BMN section 4.1; G-TAD section 3.4).

    Args:
        segments_n2: annotated segments as shares of the covered time, clipped to [0, 1] [N, 2]; may be empty.
        durations: D.
        snippets: T.
        unit: boundary i stands for ``[i + unit[0], i + unit[1]]`` (BMN: -0.5, 0.5; G-TAD's ActivityNet branch and
            mmaction2's BMN: -0.5, 1.5; G-TAD's THUMOS'14 branch: 0, 1).
    """
    if len(segments_n2) == 0:
        nothing = torch.zeros(snippets)
        return MapTargets(start_t=nothing, end_t=nothing.clone(), iou_dt=torch.zeros(durations, snippets))
    overlaps = tiou(cell_segments(durations, snippets)[:, :, None], segments_n2).max(axis=2)
    return MapTargets(
        start_t=_boundary(segments_n2[:, 0] * snippets, snippets, unit),
        end_t=_boundary(segments_n2[:, 1] * snippets, snippets, unit),
        iou_dt=torch.from_numpy((overlaps * valid_cells(durations, snippets)).astype(np.float32)),
    )


def _boundary(positions_n: Floats, snippets: int, unit: tuple[float, float]) -> Tensor:
    """Share of the unit of each boundary 0 … T-1 that lies in the zone of an annotated position [T]."""
    place = np.arange(snippets, dtype=np.float64)[:, None]
    low = np.maximum(place + unit[0], positions_n - BOUNDARY_ZONE / 2)
    high = np.minimum(place + unit[1], positions_n + BOUNDARY_ZONE / 2)
    share = np.clip(high - low, 0.0, None).max(axis=1) / (unit[1] - unit[0])
    return torch.from_numpy(share.astype(np.float32))
