"""Stages that are run again in the backward pass: equal gradients, equal BatchNorm statistics, less kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pal_ds.config import ConfigError
from pal_ds.config.backbones import BACKBONES
from pal_ds.models import build_backbone, convert_sync_batchnorm
from tests.support.rank_pool import RankPool
from tests.support.saved_tensors import saved_bytes
from tests.support.tiny_models import tiny_batch, tiny_objective

CLIPS, SIDE = 3, 40
WIDTH = 1 / 8


def trained(
    backbone: nn.Module, clips: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return gradients and buffers after two backward passes."""
    for _ in range(2):
        backbone(clips).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    return gradients, dict(backbone.named_buffers())


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_gradients_and_statistics_are_those_of_a_run_that_keeps_everything(name: str, share: float) -> None:
    plain = build_backbone(name, width=WIDTH)
    again = copy.deepcopy(plain)
    again.recomputed_stages = round(share * len(plain.stages()))
    clips = torch.randn(CLIPS, 3, 8, SIDE, SIDE)
    for found, expected in zip(trained(again, clips), trained(plain, clips), strict=True):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], value), key


@pytest.mark.parametrize("name", BACKBONES)
def test_the_stages_are_the_whole_network_in_order(name: str) -> None:
    backbone = build_backbone(name, width=WIDTH)
    staged = [part for stage in backbone.stages() for module in stage for part in module.modules()]
    whole = [part for part in backbone.modules() if part is not backbone]
    leaves = [part for part in staged if not list(part.children())]
    assert [id(part) for part in leaves] == [id(part) for part in whole if not list(part.children())]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_stage_more_keeps_less(name: str) -> None:
    backbone = build_backbone(name, width=WIDTH)
    clips = torch.randn(CLIPS, 3, 8, SIDE, SIDE)
    kept = []
    for stages in range(len(backbone.stages()) + 1):
        backbone.recomputed_stages = stages
        kept.append(saved_bytes(lambda: backbone(clips), backbone.parameters()))
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == len(kept)


def test_an_objective_trains_alike_in_half_precision() -> None:
    losses = []
    for stages in (0, 11):
        objective = tiny_objective(width=1 / 8, recompute_stages=stages)
        assert objective.backbone.recomputed_stages == stages
        with torch.autocast("cpu", torch.bfloat16):
            output = objective(tiny_batch(2))
        output.loss.backward()
        grads = [parameter.grad for parameter in objective.query_encoder.parameters()]
        losses.append([output.loss.detach(), output.staged, *grads, *objective.buffers()])
    assert all(torch.equal(one, two) for one, two in zip(*losses, strict=True))


def test_more_stages_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"recompute_stages = 12: i3d has 11 stages; use at most 11"):
        tiny_objective(recompute_stages=12)
    with pytest.raises(ConfigError, match=r"recompute_stages = 1: does not go with model\.compile"):
        tiny_objective(recompute_stages=1, compile=True)


@pytest.mark.parametrize("name", ["i3d", "tsm_resnet50"])
def test_frozen_batchnorm_in_a_network_that_trains_reads_its_statistics_in_the_second_run_too(
    name: str,
) -> None:
    torch.manual_seed(0)
    plain = build_backbone(name, width=1 / 8).train()
    clips = torch.randn(2, 3, 8, 32, 32)
    for layer in plain.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval().requires_grad_(False)
    again = copy.deepcopy(plain)
    again.recomputed_stages = len(again.stages())
    for network in (plain, again):
        network(clips).square().sum().backward()
    pairs = zip(plain.parameters(), again.parameters(), strict=True)
    found = [(kept.grad, made.grad) for kept, made in pairs if kept.requires_grad]
    assert found
    for kept, made in found:
        torch.testing.assert_close(made, kept)
    torch.testing.assert_close(list(again.buffers()), list(plain.buffers()))


def synchronised(rank: int) -> list[torch.Tensor]:
    """Train one step on this rank's half of a batch with everything kept and with everything run again."""
    results = []
    for stages in (0, 5):
        torch.manual_seed(0)
        backbone = convert_sync_batchnorm(build_backbone("tsm_resnet8", width=1 / 8))
        backbone.recomputed_stages = min(stages, len(backbone.stages()))
        clips = torch.randn(4, 3, 8, 32, 32, generator=torch.Generator().manual_seed(5))
        backbone(clips[2 * rank : 2 * rank + 2]).square().sum().backward()
        results.append([parameter.grad for parameter in backbone.parameters()] + list(backbone.buffers()))
    return [bool(torch.equal(one, two)) for one, two in zip(*results, strict=True)]


def test_two_ranks_agree_on_statistics_in_the_second_run_too(rank_pool: RankPool) -> None:
    assert all(all(answers) for answers in rank_pool.run(synchronised))
