"""Speed prediction and relative speed: which frames a clip of a speed has, and known values of the losses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from pal_ds.config.base import ConfigError
from pal_ds.config.objective import ObjectiveConfig, check_views
from pal_ds.config.synthesis import SynthesisConfig
from pal_ds.models.layers.numerics import unit
from pal_ds.models.objectives.rspnet import speed_ranking
from pal_ds.models.objectives.speed import speed_classes
from pal_ds.models.ssl.playback_speed import clips_at_speeds
from tests.support.tiny_models import tiny_batch, tiny_objective

RUN: dict[str, Any] = {"paste": "none", "region_min": 8, "region_max": 8, "stride_min": 2, "stride_max": 2}


def numbered_run(clips: int, length: int) -> torch.Tensor:
    """A view whose pixels are the frame's number, [1, J, 3, T, 1, 1]."""
    frames = torch.arange(clips * length, dtype=torch.float32)
    return frames.view(1, clips, 1, length, 1, 1).expand(-1, -1, 3, -1, -1, -1)


@pytest.mark.parametrize("speeds", [(1, 2), (1, 2, 4), (2, 8)])
def test_clips_play_at_their_speed_all_over_the_run(speeds: tuple[int, ...]) -> None:
    found = clips_at_speeds(numbered_run(8, 8), speeds)[0, :, 0, :, 0, 0]
    each = 8 // len(speeds)
    assert found.shape == (each * len(speeds), 8)
    for row, speed in zip(found, torch.tensor(speeds).repeat_interleave(each), strict=True):
        assert (row.diff() == speed).all()
    for number in range(len(speeds)):
        part = found[number * each : (number + 1) * each]
        assert part[0, 0] == 0
        assert part[-1, -1] == 63
    assert speed_classes(len(found), len(speeds), found.device).tolist() == sorted(
        list(range(len(speeds))) * each
    )


def static(batch: Any) -> Any:
    """The batch with every video frozen at its first frame."""
    still = batch.query_bjcthw[:, :1, :, :1].expand_as(batch.query_bjcthw).contiguous()
    return dataclasses.replace(batch, query_bjcthw=still, key_bjcthw=still.clone())


def moving_batch(samples: int, *, seed: int = 0) -> Any:
    """A bright bar that moves on steadily, at another place and hue in every video."""
    generator = torch.Generator().manual_seed(seed)
    batch = tiny_batch(samples, seed=seed)
    frame = torch.arange(64).view(1, 64, 1)
    phase = torch.randint(0, 32, (samples, 1, 1), generator=generator)
    lit = ((torch.arange(32).view(1, 1, 32) - frame - phase) % 32) < 6
    hue = torch.rand(samples, 3, 1, 1, 1, generator=generator)
    run = lit[:, None, :, None, :].float() * (1 + hue)
    run = run.expand(-1, -1, -1, 32, -1).unflatten(2, (8, 8)).transpose(1, 2).contiguous()
    return dataclasses.replace(batch, query_bjcthw=run, key_bjcthw=run.clone())


def speed_objective() -> Any:
    return tiny_objective(
        objective={"name": "speed", "dropout": 0.0}, embedding_dim=128, width=1 / 8, bn_momentum=0.5
    )


def test_a_still_video_has_no_speed() -> None:
    objective = speed_objective().eval()
    output = objective(static(tiny_batch(3)))
    assert output.metrics["top1"].item() == 0.5
    torch.nn.init.zeros_(objective.query_encoder.classifier.weight)
    torch.nn.init.zeros_(objective.query_encoder.classifier.bias)
    output = objective(tiny_batch(3))
    assert output.loss.item() == pytest.approx(0.693147, abs=1e-5)
    # With its samples' scores validation tells an error, and the report a verdict.
    loss_b, hit_b = output.scores
    assert loss_b.tolist() == pytest.approx([output.loss.item()] * 3)
    assert hit_b.tolist() == [0.5] * 3
    assert output.metrics["chance_loss"].item() == pytest.approx(0.693147, abs=1e-5)


def test_speed_is_learnt_from_motion() -> None:
    objective = speed_objective()
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for step in range(25):
        output = objective(moving_batch(4, seed=step))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(None)
    assert output.metrics["top1"].item() > 0.9
    assert output.staged is None


def test_speed_needs_no_key_view() -> None:
    batch = dataclasses.replace(tiny_batch(2), key_bjcthw=None, key_region_b2=None)
    assert speed_objective()(batch).loss.isfinite()
    with pytest.raises(ValueError, match=r"synthesis\.views"):
        tiny_objective(objective={"name": "rspnet"})(batch)


def test_ranking_of_features_without_speed_is_the_margin() -> None:
    same = unit(torch.randn(5, 1, 8)).expand(-1, 3, -1)
    loss, ordered = speed_ranking(same, same, 0.15)
    assert loss.item() == pytest.approx(0.15, abs=1e-6)
    assert ordered.item() == 0.0


def test_ranking_is_its_definition() -> None:
    query, key = (unit(torch.randn(4, 3, 8)) for _ in range(2))
    lead = [
        float(query[b, s] @ key[b, s] - query[b, s] @ key[b, other])
        for b in range(4)
        for s in range(3)
        for other in range(3)
        if other != s
    ]
    loss, ordered = speed_ranking(query, key, 0.3)
    assert loss.item() == pytest.approx(sum(max(0.0, 0.3 - each) for each in lead) / len(lead), abs=1e-6)
    assert ordered.item() == pytest.approx(sum(each > 0 for each in lead) / len(lead))
    apart = torch.eye(3, 8).expand(4, -1, -1)
    assert speed_ranking(apart, apart, 0.3)[0].item() == 0.0


def test_rspnet_of_still_videos_ranks_nothing_and_contrasts_appearance() -> None:
    objective = tiny_objective(objective={"name": "rspnet"}).eval()
    output = objective(static(tiny_batch(3)))
    assert output.metrics["speed_loss"].item() == pytest.approx(0.15, abs=1e-4)
    (term,) = output.terms
    alike = (term.query_md * term.key_md).sum(dim=1)
    torch.testing.assert_close(alike, torch.ones_like(alike), rtol=0, atol=1e-4)


def test_rspnet_loss_is_contrast_plus_weighted_ranking() -> None:
    plain = tiny_objective(objective={"name": "rspnet"}).eval()
    heavy = tiny_objective(objective={"name": "rspnet", "speed_weight": 3.0}).eval()
    one, three = plain(tiny_batch(3)), heavy(tiny_batch(3))
    torch.testing.assert_close(three.loss - one.loss, 2.0 * one.metrics["speed_loss"])


@pytest.mark.parametrize("negatives", ["queue", "batch", "both"])
def test_rspnet_trains_both_heads_and_moves_its_key_encoder(negatives: str) -> None:
    objective = tiny_objective(objective={"name": "rspnet", "negatives": negatives}, momentum=0.5)
    output = objective(tiny_batch(3))
    output.loss.backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == name.startswith("query_encoder."), name
    before = objective.key_encoder.motion[0].weight.clone()
    with torch.no_grad():
        objective.query_encoder.motion[0].weight.add_(1.0)
    objective.after_step(output.staged)
    torch.testing.assert_close(objective.key_encoder.motion[0].weight, before + 0.5)
    assert (output.staged is None) == (negatives == "batch")


def test_rspnet_learns_speed_on_moving_bars() -> None:
    objective = tiny_objective(objective={"name": "rspnet"}, width=1 / 8, momentum=0.5, queue_size=16)
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 3e-3)
    first = None
    for step in range(25):
        output = objective(moving_batch(4, seed=step))
        first = first if first is not None else output.metrics["speed_loss"].item()
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(output.staged)
    assert output.metrics["speed_loss"].item() < 0.5 * first
    assert output.metrics["speed_order"].item() > 0.9


@pytest.mark.parametrize(
    ("objective", "synthesis", "field"),
    [
        ({"name": "speed"}, RUN, "synthesis.views"),
        ({"name": "supervised"}, {}, "synthesis.views"),
        ({"name": "pal"}, {"views": 1}, "synthesis.views"),
        ({"name": "moco"}, {**RUN, "views": 1}, "synthesis.views"),
        ({"name": "rspnet"}, {**RUN, "views": 3}, "synthesis.views"),
        ({"name": "rspnet"}, {}, "synthesis.paste"),
        ({"name": "rspnet"}, {**RUN, "region_min": 4, "region_max": 4}, "synthesis.region_min"),
        ({"name": "rspnet"}, {**RUN, "stride_mode": "clip"}, "synthesis.stride_mode"),
        ({"name": "rspnet"}, {**RUN, "stride_max": 4}, "synthesis.stride_max"),
        ({"name": "rspnet", "speeds": (1, 9)}, RUN, "objective.speeds"),
        ({"name": "videomoco", "drop_share": 0.05}, {}, "objective.drop_share"),
    ],
)
def test_views_that_an_objective_cannot_use_are_refused(
    objective: dict[str, Any], synthesis: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_views(ObjectiveConfig(**objective), SynthesisConfig(**synthesis), 8)
    assert caught.value.field == field
    assert caught.value.fix


def test_every_view_wants_another_background() -> None:
    check_views(ObjectiveConfig(), SynthesisConfig(views=3), 4)
    with pytest.raises(ConfigError, match="another background"):
        check_views(ObjectiveConfig(), SynthesisConfig(views=3), 3)
    check_views(ObjectiveConfig(), SynthesisConfig(views=3, paste="same"), 3)
