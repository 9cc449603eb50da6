"""BSP: the whole run as one clip, loss against a plain reference, the action beside it, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pal_ds.config.base import ConfigError
from pal_ds.config.objective import ObjectiveConfig, check_views
from pal_ds.config.synthesis import SynthesisConfig
from pal_ds.models.objectives.bsp import DIFFERENT_CLASS, as_one_clip
from tests.support.tiny_models import tiny_batch, tiny_objective

BOUNDARY: dict[str, Any] = {"views": 1, "paste": "boundary", "beta_min": 1.0}


def bsp(*, num_classes: int | None = 3, **options: Any) -> Any:
    return tiny_objective(
        objective={"name": "bsp", "dropout": 0.0, **options}, num_classes=num_classes, embedding_dim=128
    )


def batch_of(samples: int = 8, *, seed: int = 0) -> Any:
    batch = tiny_batch(samples, seed=seed, frames=2)
    return dataclasses.replace(
        batch, boundaries_b=torch.arange(samples) % 4, key_bjcthw=None, key_region_b2=None
    )


def test_the_backbone_sees_across_the_boundary() -> None:
    view = torch.randn(2, 8, 3, 2, 4, 4)
    clip = as_one_clip(view)
    assert clip.shape == (2, 1, 3, 16, 4, 4)
    for frame in range(16):
        assert torch.equal(clip[:, 0, :, frame], view[:, frame // 2, :, frame % 2])


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_loss_is_boundary_plus_weighted_action_of_videos_of_one_class(weight: float) -> None:
    objective = bsp(class_weight=weight).eval()
    batch = batch_of()
    encoder = objective.query_encoder
    clip = torch.cat([batch.query_bjcthw[:, number] for number in range(8)], dim=2)
    features = encoder.backbone(clip)
    loss_b = F.cross_entropy(encoder.boundary(features), batch.boundaries_b, reduction="none")
    if weight:
        action_b = F.cross_entropy(encoder.action(features), batch.labels_b, reduction="none")
        loss_b = loss_b + weight * torch.where(batch.boundaries_b == DIFFERENT_CLASS, 0.0, action_b)
    output = objective(batch)
    torch.testing.assert_close(output.loss, loss_b.mean())
    torch.testing.assert_close(output.scores[0], loss_b.detach())
    hits = (encoder.boundary(features).argmax(dim=1) == batch.boundaries_b).float()
    assert torch.equal(output.scores[1], hits)
    assert output.metrics["share_same_class"].item() == 0.25
    assert output.metrics["chance_top1"].item() == 0.25
    one_class = 0.75 * weight * math.log(encoder.action.out_features) if weight else 0.0
    assert output.metrics["chance_loss"].item() == pytest.approx(math.log(4) + one_class, rel=1e-5)


def test_every_trained_parameter_gets_a_gradient_with_and_without_actions() -> None:
    for weight in (0.0, 1.0):
        objective = bsp(class_weight=weight)
        objective(batch_of()).loss.backward()
        assert [name for name, value in objective.named_parameters() if value.grad is None] == []
        assert (objective.query_encoder.action is None) == (weight == 0)


def test_a_change_of_speed_is_learnt_from_motion() -> None:
    """A bar that moves on steadily, or twice as fast from the middle on: two of the four boundaries."""

    def moving(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        batch = batch_of(8, seed=seed)
        kinds = torch.tensor([2, 3] * 4)
        frame = torch.arange(16).view(1, 16)
        place = torch.where(kinds.view(8, 1) == 2, frame + (frame - 8).clamp(min=0), frame)
        phase = torch.randint(0, 32, (8, 1), generator=generator)
        lit = ((torch.arange(32).view(1, 1, 32) - (place + phase)[:, :, None]) % 32) < 6
        run = lit[:, None, :, None, :].float().expand(-1, 3, -1, 32, -1)
        clips = run.unflatten(2, (8, 2)).transpose(1, 2).contiguous()
        return dataclasses.replace(batch, query_bjcthw=clips, boundaries_b=kinds)

    torch.manual_seed(0)
    objective = tiny_objective(
        objective={"name": "bsp", "dropout": 0.0, "class_weight": 0.0},
        num_classes=3,
        embedding_dim=128,
        width=1 / 8,
        bn_momentum=0.5,
    )
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for step in range(30):
        output = objective(moving(step))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.metrics["top1"].item() > 0.85


def test_labels_are_asked_for() -> None:
    for classes in (None, 1):
        with pytest.raises(ConfigError, match="with-labels") as caught:
            bsp(num_classes=classes)
        assert caught.value.field == "objective.name"
    with pytest.raises(ValueError, match=r"synthesis\.paste=boundary"):
        bsp()(dataclasses.replace(tiny_batch(2), boundaries_b=None))


def test_boundaries_and_bsp_go_together() -> None:
    check_views(ObjectiveConfig(name="bsp"), SynthesisConfig(**BOUNDARY), 8)
    for name, options in (("bsp", {"views": 1}), ("aot", BOUNDARY), ("speed", BOUNDARY)):
        with pytest.raises(ConfigError) as caught:
            check_views(ObjectiveConfig(name=name), SynthesisConfig(**options), 8)
        assert caught.value.field == "synthesis.paste"
