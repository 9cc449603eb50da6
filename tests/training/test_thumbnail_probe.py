"""Partners that looks alone find: colours, and where things move, each told apart from the other."""

from __future__ import annotations

import pytest
import torch

from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ViewBatch
from pal_ds.training.thumbnail_probe import ThumbnailProbe, thumbnails

ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))
VIDEOS, CLIPS, FRAMES, SIDE = 12, 4, 4, 32


def views(seed: int) -> torch.Tensor:
    return torch.randn(VIDEOS, CLIPS, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def result(query: torch.Tensor, key: torch.Tensor, region=(1, 2)) -> dict[str, float]:
    regions = torch.tensor([region]).expand(len(query), 2)
    probe = ThumbnailProbe(ALONE)
    for first in range(0, len(query), 5):  # several batches, the last one shorter
        part = slice(first, first + 5)
        probe.add(
            ViewBatch(
                query_bjcthw=query[part],
                query_region_b2=regions[part],
                key_bjcthw=key[part],
                key_region_b2=regions[part],
            )
        )
    return probe.result()


def test_views_of_one_scene_are_found_by_their_colours_and_unrelated_ones_are_not() -> None:
    scene = 2 * views(9).mean(dim=(1, 3), keepdim=True)
    found = result(views(0) + scene, views(1) + scene)
    assert found["thumbnail_top1"] == 1.0
    assert found["motion_top1"] < 0.5, "the scene does not move"
    assert result(views(0), views(1))["thumbnail_top1"] < 0.5
    assert (found["thumbnail_samples"], found["thumbnail_chance"]) == (VIDEOS, pytest.approx(1 / VIDEOS))


def test_views_that_move_at_one_place_are_found_by_motion_alone() -> None:
    size = 1 + 3 * torch.rand(VIDEOS, 1, 1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    size = size.repeat_interleave(4, dim=4).repeat_interleave(4, dim=5)
    found = result(views(0) * size, views(1) * size)
    assert found["motion_top1"] == 1.0
    assert found["thumbnail_top1"] < 0.6


def test_only_the_region_is_looked_at() -> None:
    clips = views(0)[:1]
    changed = clips.clone()
    changed[:, [0, 3]] += 5
    region = torch.tensor([[1, 2]])
    assert torch.equal(thumbnails(clips, region), thumbnails(changed, region))
    changed[:, 1] += 5
    assert not torch.equal(thumbnails(clips, region), thumbnails(changed, region))


def test_without_a_key_view_there_is_nothing_to_say() -> None:
    probe = ThumbnailProbe(ALONE)
    probe.add(ViewBatch(query_bjcthw=views(0), query_region_b2=torch.tensor([[1, 2]]).expand(VIDEOS, 2)))
    assert probe.result() == {}
