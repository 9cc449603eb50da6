"""BMN: Boundary-Matching Network for temporal action proposals (Lin et al., ICCV 2019).

Layers and their names are those of the public releases (JJBOY's and mmaction2's, 4,978,564 parameters with 400
channels in), which lay their maps out differently: see :class:`BMN` and ``pal_ds.transfer.heads.release_weights``.
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


class ReleaseLayoutError(ValueError):
    """Weights of a release whose maps are laid out otherwise than the model's; says how."""


#: What the map convolutions run over: [duration, start] (the paper, mmaction2) or [start, end] (JJBOY).
LAYOUTS = ("duration-start", "start-end")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BmnConfig(MapHeadConfig):
    """Options of BMN."""

    name: str = option("bmn", "bmn")
    layout: str = option(
        "duration-start",
        "what map convolutions run over: duration-start (paper, mmaction2) or start-end (JJBOY's release)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.layout in LAYOUTS, "head.layout", self.layout, f"use one of {', '.join(LAYOUTS)}")

    def network(self, feature_dim: int) -> BMN:
        """See :class:`MapHeadConfig`."""
        return BMN(feature_dim, layout=self.layout, **self.map_sizes())


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
        layout: of the map that is convolved, one of ``LAYOUTS``; the output is [D, T] either way. With
            ``start-end`` a candidate is sampled to its exclusive end, as in JJBOY's release.
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
        layout: str = "duration-start",
    ) -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"layout = {layout!r}: use one of {', '.join(LAYOUTS)}")
        self.layout, self.samples, self.samples_per_bin, self.context = (
            layout,
            samples,
            samples_per_bin,
            context,
        )
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
        positions, cell = sample_positions(snippets, durations, samples, samples_per_bin, context, layout)
        self.matching = SampledProjection(positions, snippets, outside="zero", cell_of_dt=cell)
        self.register_load_state_dict_pre_hook(_check_sample_mask)  # type: ignore[no-untyped-call]

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
        maps = self.x_2d_p(maps)
        if self.layout == "start-end":
            start = torch.arange(self.snippets, device=maps.device).expand(self.durations, -1)
            end = start + torch.arange(self.durations, device=maps.device)[:, None]
            # Void cells show the last end; nothing reads them.
            maps = maps[:, :, start, end.clamp(max=self.snippets - 1)]
        return maps, self.x_1d_s(base).squeeze(1), self.x_1d_e(base).squeeze(1)


def _check_sample_mask(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Take a release's ``sample_mask`` out of ``state``, having made sure that it samples as the module does.

    The map convolutions' weights are bound to the layout of the map; without this, those of the other layout would
    load without a word.
    """
    assert isinstance(module, BMN)
    mask = state.get(f"{prefix}sample_mask")
    if mask is None:
        return
    if samples_like(module, mask):
        del state[f"{prefix}sample_mask"]
        return
    other = LAYOUTS[1 - LAYOUTS.index(module.layout)]
    twin = BMN(
        4,
        snippets=module.snippets,
        durations=module.durations,
        hidden_1d=4,
        hidden_2d=1,
        hidden_3d=1,
        samples=module.samples,
        samples_per_bin=module.samples_per_bin,
        context=module.context,
        layout=other,
    )
    if samples_like(twin, mask):
        raise ReleaseLayoutError(f"these weights belong to maps laid out {other}; set head.layout={other}")
    raise ReleaseLayoutError(
        "sample_mask in the file is neither JJBOY's nor mmaction2's for "
        f"head.snippets={module.snippets} and {module.samples} samples; these weights can't be used"
    )


def samples_like(model: BMN, mask: Tensor) -> bool:
    """Say whether a release's ``sample_mask`` [T, N · T · T] is what ``model`` samples."""
    size = model.snippets
    if model.durations != size or mask.numel() != size * model.samples * size * size:
        return False
    probe = torch.rand(1, 1, size, generator=torch.Generator().manual_seed(0))
    each = torch.eye(model.samples)[:, None]
    ours = model.matching.cpu()(probe, each)[0]
    theirs = (probe[0] @ mask.detach().float().cpu().reshape(size, -1)).reshape(ours.shape)
    return torch.allclose(ours, theirs, atol=1e-4)


def _boundary_head(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(hidden, hidden, 3, padding=1, groups=4), nn.ReLU(), nn.Conv1d(hidden, 1, 1), nn.Sigmoid()
    )


def sample_positions(
    snippets: int, durations: int, samples: int, per_bin: int, context: float, layout: str = "duration-start"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Place the samples of the Boundary-Matching layer (BMN section 3.2, as released).

    Args:
        snippets: T.
        durations: D.
        samples: N, points sampled from a candidate.
        per_bin: S, positions averaged for one point.
        context: share of a candidate's length that is added on each side.
        layout: one of ``LAYOUTS``.

    Returns:
        Positions in snippets, float64 [V + 1, N, S], the last candidate without samples for void cells; and the
        candidate shown by each cell, int64 [D, T] (duration, start) or [T, T] (start, end).
    """
    by_end = layout == "start-end"
    valid = valid_cells(snippets if by_end else durations, snippets)
    length, start = np.nonzero(valid)
    # JJBOY's release takes the end one snippet later, and adds context for a length that is one more.
    last = start + length + by_end
    extent = last - start + 1
    first, last = start - extent * context, last + extent * context
    steps = np.linspace(0.0, 1.0, samples * per_bin)
    positions = (first[:, None] + (last - first)[:, None] * steps).reshape(-1, samples, per_bin)
    void = np.full((1, samples, per_bin), np.nan)
    cell = np.full(valid.shape, len(length), dtype=np.int64)
    cell[(start, start + length) if by_end else (length, start)] = np.arange(len(length))
    return np.concatenate([positions, void]), cell
