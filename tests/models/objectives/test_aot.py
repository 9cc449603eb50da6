"""Arrow of time: both ways of every clip, their labels, the loss against its definition, and what can be told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pal_ds.models.objectives.aot import BACKWARDS, FORWARDS, both_ways
from tests.support.tiny_models import tiny_batch, tiny_objective


def aot(**options: Any) -> Any:
    return tiny_objective(objective={"name": "aot", "dropout": 0.0}, embedding_dim=128, **options)


def brightening(samples: int, *, seed: int = 0) -> Any:
    """Videos that brighten at a hue and pace of their own: backwards they darken."""
    generator = torch.Generator().manual_seed(seed)
    batch = tiny_batch(samples, seed=seed)
    pace = 0.5 + torch.rand(samples, 8, 1, 1, 1, 1, generator=generator)
    hue = torch.rand(samples, 1, 3, 1, 1, 1, generator=generator)
    ramp = torch.linspace(-1, 1, 8).view(1, 1, 1, 8, 1, 1)
    clips = (ramp * pace + hue + 0.1 * batch.query_bjcthw).contiguous()
    return dataclasses.replace(batch, query_bjcthw=clips, key_bjcthw=None, key_region_b2=None)


def test_every_clip_is_there_both_ways_with_its_direction() -> None:
    clips = torch.randn(2, 3, 3, 5, 4, 4)
    both, direction = both_ways(clips)
    assert both.shape == (2, 6, 3, 5, 4, 4)
    assert direction.tolist() == [[FORWARDS] * 3 + [BACKWARDS] * 3] * 2
    assert torch.equal(both[:, :3], clips)
    for frame in range(5):
        assert torch.equal(both[:, 3:, :, frame], clips[:, :, :, 4 - frame])


def test_loss_is_the_cross_entropy_of_both_ways() -> None:
    objective = aot().eval()
    batch = tiny_batch(3)
    output = objective(batch)
    losses, hits = [], []
    for clips, label in ((batch.query_bjcthw, FORWARDS), (batch.query_bjcthw.flip(3), BACKWARDS)):
        _, logits = objective.query_encoder(clips)
        losses.append(F.cross_entropy(logits.flatten(0, 1), torch.full((24,), label), reduction="none"))
        hits.append((logits.argmax(dim=2) == label).float())
    torch.testing.assert_close(output.loss, torch.cat(losses).mean())
    torch.testing.assert_close(output.metrics["top1"], torch.cat(hits).mean())
    loss_b, hit_b = output.scores
    torch.testing.assert_close(loss_b, torch.stack(losses).view(2, 3, 8).mean(dim=(0, 2)))
    torch.testing.assert_close(hit_b, torch.stack(hits).mean(dim=(0, 2)))
    assert output.metrics["chance_loss"].item() == pytest.approx(0.693147, abs=1e-5)


def test_features_are_those_of_the_clips_as_they_play() -> None:
    objective = aot().eval()
    batch = tiny_batch(2)
    features, _ = objective.query_encoder(batch.query_bjcthw)
    torch.testing.assert_close(
        objective(batch).features, features.view(2, 8, -1).mean(dim=1), rtol=1e-4, atol=1e-5
    )


def test_a_still_video_has_no_arrow() -> None:
    batch = tiny_batch(3)
    still = batch.query_bjcthw[:, :, :, :1].expand_as(batch.query_bjcthw).contiguous()
    output = aot().eval()(dataclasses.replace(batch, query_bjcthw=still))
    assert output.metrics["top1"].item() == 0.5


def test_the_arrow_is_learnt_where_there_is_one() -> None:
    objective = aot(width=1 / 8, bn_momentum=0.5)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for step in range(20):
        output = objective(brightening(4, seed=step))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(None)
    assert output.metrics["top1"].item() > 0.9
    assert (output.staged, output.features) == (None, None)
