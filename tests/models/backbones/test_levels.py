"""The lower level of every backbone: before its last halving, pooled to one vector a clip."""

from __future__ import annotations

import pytest
import torch

from pal_ds.config.backbones import BACKBONES
from pal_ds.models import build_backbone
from pal_ds.models.backbones.levels import kept_level, lower_level, pooled


@pytest.mark.parametrize("name", BACKBONES)
def test_the_lower_level_is_larger_and_belongs_to_its_clip(name: str) -> None:
    backbone = build_backbone(name, width=1 / 8)
    level = lower_level(backbone)
    assert backbone.training
    assert level.stage < len(backbone.stages()) - 1
    backbone.eval()
    clips = torch.randn(3, 3, 8, 64, 64)
    with torch.no_grad(), kept_level(backbone, level.stage) as kept:
        backbone(clips)
        together = pooled(kept[0], 3)
        assert kept[0].shape[-1] > backbone.volume(clips).shape[-1]
        kept.clear()
        backbone(clips[1:2])
        alone = pooled(kept[0], 1)
    assert together.shape == (3, level.channels)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_the_level_of_a_resnet_is_res4() -> None:
    backbone = build_backbone("resnet3d50", width=1 / 8)
    assert lower_level(backbone).channels == backbone.feature_dim // 2


def test_gradients_reach_the_level_through_recomputed_stages() -> None:
    grads = []
    for recomputed in (0, 3):
        torch.manual_seed(0)
        backbone = build_backbone("tsm_resnet8", width=1 / 8)
        backbone.recomputed_stages = recomputed
        with kept_level(backbone, lower_level(backbone).stage) as kept:
            backbone(torch.ones(2, 3, 8, 32, 32) * torch.arange(8).view(8, 1, 1))
            loss = pooled(kept[0], 2).square().sum()
            loss.backward()
        grads.append(backbone.stem.weight.grad)
    torch.testing.assert_close(*grads)


def test_nothing_is_left_on_the_backbone() -> None:
    backbone = build_backbone("tsm_resnet8", width=1 / 8)
    with kept_level(backbone, lower_level(backbone).stage):
        pass
    assert not any(module._forward_hooks for module in backbone.modules())
