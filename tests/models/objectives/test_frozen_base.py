"""Where a part of the encoder is frozen: only the rest moves, and the key encoder holds only copies of that."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pal_ds.models import Objective, ViewBatch
from tests.support.encoders import KINDS, write_folder
from tests.support.tiny_models import tiny_batch, tiny_objective


def pal(tmp_path: Path, kind: str = "videomae", **options: Any) -> Objective:
    return tiny_objective(width=1, backbone=write_folder(tmp_path, kind), **options)


def batch_of(samples: int = 4) -> ViewBatch:
    return tiny_batch(samples, frames=4, side=32)


def trained_bytes(module: nn.Module) -> int:
    return sum(each.untyped_storage().nbytes() for each in module.parameters() if each.requires_grad)


def own_bytes(key: nn.Module, query: nn.Module) -> int:
    """Bytes of a key encoder that are not the query encoder's."""
    known = {each.untyped_storage().data_ptr() for each in query.parameters()}
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in key.parameters()
    }
    return sum(size for place, size in storages.items() if place not in known)


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_and_heads_move_and_the_key_side_holds_only_those(kind: str, tmp_path: Path) -> None:
    objective = pal(tmp_path, kind, lora_rank=2, momentum=0.5, final_relu=False)
    before = {name: value.clone() for name, value in objective.named_parameters()}
    trained = [each for each in objective.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    for _ in range(2):
        output = objective(batch_of())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(output.staged)
    moved = {name for name, value in objective.named_parameters() if not torch.equal(value, before[name])}
    in_backbone = {name for name in moved if ".backbone." in name}
    assert in_backbone and all(".lora_" in name for name in in_backbone)
    assert {name.split(".")[0] for name in in_backbone} == {"query_encoder", "key_encoder"}
    assert any(".projector." in name for name in moved)
    query, key = objective.query_encoder, objective.key_encoder
    assert own_bytes(key, query) == trained_bytes(query)
    full = pal(tmp_path, kind)
    assert own_bytes(full.key_encoder, full.query_encoder) == trained_bytes(full.query_encoder)
    backbone = full.backbone
    assert own_bytes(key, query) < own_bytes(full.key_encoder, full.query_encoder)
    assert own_bytes(key.backbone, query.backbone) < 0.2 * sum(
        4 * each.numel() for each in backbone.parameters()
    )


def test_a_state_holds_the_common_part_once_and_comes_back(tmp_path: Path) -> None:
    objective = pal(tmp_path, lora_rank=2)
    state = objective.state_dict()
    keys = {name for name in state if name.startswith("key_encoder.backbone.")}
    assert keys and all(".lora_" in name for name in keys)
    with torch.no_grad():
        for value in objective.parameters():
            value.add_(1)
    saved = {name: value.clone() for name, value in objective.state_dict().items()}
    other = pal(tmp_path, lora_rank=2, seed=3)
    other.load_state_dict(saved, strict=True)
    for one, two in zip(objective.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    first = next(iter(other.query_encoder.backbone.stem.parameters()))
    assert first is next(iter(other.key_encoder.backbone.stem.parameters()))


def test_a_frozen_stem_is_common_and_the_rest_is_not(tmp_path: Path) -> None:
    objective = pal(tmp_path, frozen_stages=2)
    query, key = objective.query_encoder.backbone, objective.key_encoder.backbone
    shared = [one is two for one, two in zip(query.parameters(), key.parameters(), strict=True)]
    frozen = [not each.requires_grad for each in query.parameters()]
    assert shared == frozen
    assert any(shared) and not all(shared)


def test_a_network_that_trains_as_a_whole_has_nothing_in_common() -> None:
    objective = tiny_objective()
    assert own_bytes(objective.key_encoder, objective.query_encoder) > 0
    assert {name.split(".")[0] for name in objective.state_dict()} == {
        "query_encoder",
        "key_encoder",
        "queue",
    }


def test_the_first_loss_of_a_fresh_transformer_says_something_with_the_recipes_settings(
    tmp_path: Path,
) -> None:
    """A fresh transformer maps all clips to nearly one direction, far from the random rows of a new queue."""
    options = {"embedding_dim": 32, "final_relu": False, "norm": "region", "temperature": 0.1}
    usual = pal(tmp_path, queue_size=256, **options)
    assert usual(batch_of(16)).loss < 0.1 * math.log(1 + 256), "told apart from noise, not from other clips"
    among = {"queue_size": 256, "mask_unfilled": True, "objective": {"negatives": "both"}, **options}
    assert pal(tmp_path, **among)(batch_of(16)).metrics["negative_similarity"] > 0.9
    recipe = pal(tmp_path, head_bn=True, projector_layers=3, **among)(batch_of(16))
    assert abs(recipe.metrics["negative_similarity"]) < 0.2
    assert recipe.loss > 0.6 * math.log(1 + float(recipe.metrics["negatives"]))
