"""Is the pretext solvable by looks alone? Partners found by thumbnails, beside the network's top-1.

What a contrastive objective is meant to learn is what happens in a region. Its partner can often be found by where
things are and what colour they have: then top-1 rises, and says nothing of motion. A network's top-1 has to be read
beside these figures (docs/launching.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ViewBatch
from pal_ds.models.layers.numerics import full_precision, unit

SIDE = 8
#: More samples than this (over all ranks) would make a similarity matrix of over 100 MB.
MOST_SAMPLES = 5000


class ThumbnailProbe:
    """Gathers thumbnails of the regions of queries and keys over a validation pass, then matches them.

    Args:
        ranks: the world.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._rows: list[Tensor] = []
        self._room = MOST_SAMPLES // ranks.world_size

    def add(self, batch: ViewBatch) -> None:
        """Take a batch's samples, as long as there is room; nothing where there is no key view."""
        if batch.key_bjcthw is None or batch.key_region_b2 is None or self._room <= 0:
            return
        sides = (
            (batch.query_bjcthw, batch.query_region_b2),
            (batch.key_bjcthw, batch.key_region_b2),
        )
        found = [thumbnails(views[: self._room], region_b2) for views, region_b2 in sides]
        rows_bvkd = torch.stack(found, dim=1)
        self._rows.append(rows_bvkd)
        self._room -= len(rows_bvkd)

    def result(self) -> dict[str, float]:
        """Return how many queries find their key among all by each kind of thumbnail (collective).

        Returns:
            ``thumbnail_top1`` (mean colours) and ``motion_top1`` (mean absolute differences of frames), shares;
            ``thumbnail_samples``, and ``thumbnail_chance``. Empty where there are no two samples.
        """
        device = self._ranks.device
        width = 3 * SIDE * SIDE
        mine_nvkd = torch.cat(self._rows) if self._rows else torch.zeros(0, 2, 2, width, device=device)
        sizes_w = self._ranks.gather(torch.tensor([len(mine_nvkd)], device=device)).flatten().tolist()
        if sum(sizes_w) < 2:
            return {}
        padded_mvkd = torch.zeros(max(sizes_w), 2, 2, width, device=device)
        padded_mvkd[: len(mine_nvkd)] = mine_nvkd
        parts = self._ranks.gather(padded_mvkd)
        rows_nvkd = torch.cat([part[:size] for part, size in zip(parts, sizes_w, strict=True)])
        return {
            "thumbnail_top1": _matched(rows_nvkd[:, :, 0]),
            "motion_top1": _matched(rows_nvkd[:, :, 1]),
            "thumbnail_samples": float(len(rows_nvkd)),
            "thumbnail_chance": 1 / len(rows_nvkd),
        }


def thumbnails(views_bjcthw: Tensor, region_b2: Tensor) -> Tensor:
    """Return each region's mean colours, and its mean absolute differences of frames, on an 8 x 8 grid.

    Args:
        views_bjcthw: clips, normalised.
        region_b2: int64, start and length of the region in clips.

    Returns:
        float32 [B, 2, 3 * 8 * 8].
    """
    found = []
    for view_jcthw, (start, length) in zip(views_bjcthw, region_b2.tolist(), strict=False):
        part_jcthw = view_jcthw[start : start + length].float()
        colour_chw = part_jcthw.mean(dim=(0, 2))
        moved_chw = (part_jcthw[:, :, 1:] - part_jcthw[:, :, :-1]).abs().mean(dim=(0, 2))
        found.append(F.adaptive_avg_pool2d(torch.stack((colour_chw, moved_chw)), SIDE).flatten(1))
    return torch.stack(found)


def _matched(rows_nvd: Tensor) -> float:
    """Share of queries whose most similar key is their own; cosine of centred thumbnails."""
    with full_precision(rows_nvd):
        query_nd, key_nd = (unit(side - side.mean(dim=0)) for side in rows_nvd.unbind(dim=1))
        nearest_n = (query_nd @ key_nd.T).argmax(dim=1)
    return float((nearest_n == torch.arange(len(nearest_n), device=nearest_n.device)).double().mean())
