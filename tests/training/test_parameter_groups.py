"""Groups of parameters: weight decay of matrices alone, rates that fall towards the input, one group by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pal_ds.config import ConfigError, load_config
from pal_ds.config.run import OptimizerConfig
from pal_ds.training.parameter_groups import SCALE, parameter_groups
from tests.support.encoders import KINDS, write_folder
from tests.support.tiny_models import tiny_objective


def groups_of(
    options: dict[str, Any], **model: Any
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    objective = tiny_objective(
        width=1 if "backbone" in model and model["backbone"].startswith("hf") else 1 / 16, **model
    )
    trained = {name: each for name, each in objective.named_parameters() if each.requires_grad}
    made = parameter_groups(objective, trained, OptimizerConfig(**options))
    found = {
        name: group
        for name, each in trained.items()
        for group in made
        if any(each is other for other in group["params"])
    }
    assert sum(len(group["params"]) for group in made) == len(trained) == len(found)
    return trained, found


def test_the_papers_optimizer_has_one_group_in_the_order_of_names() -> None:
    trained, found = groups_of({})
    (group,) = {id(group): group for group in found.values()}.values()
    assert [id(each) for each in group["params"]] == [id(each) for each in trained.values()]
    assert (group["weight_decay"], group[SCALE]) == (1e-5, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_biases_and_positions_do_not_decay(kind: str, tmp_path: Path) -> None:
    options = {"name": "adamw", "weight_decay": 0.05, "decay": "matrices"}
    trained, found = groups_of(options, backbone=write_folder(tmp_path, kind), pooling="attentive")
    for name, group in found.items():
        words = ("position_embedding", "cls_token", "time_embeddings", "pool.query")
        small = trained[name].ndim == 1 or any(word in name for word in words)
        assert group["weight_decay"] == (0.0 if small else 0.05), name


def test_rates_fall_from_block_to_block(tmp_path: Path) -> None:
    _, found = groups_of({"layer_decay": 0.5}, backbone=write_folder(tmp_path, "videomae"))
    scales = {name: group[SCALE] for name, group in found.items()}
    backbone = "query_encoder.backbone."
    assert {value for name, value in scales.items() if not name.startswith(backbone)} == {1.0}
    assert scales[f"{backbone}norm.weight"] == 1.0
    assert scales[f"{backbone}blocks.1.layer.layernorm_before.weight"] == 0.5
    assert scales[f"{backbone}blocks.0.layer.layernorm_before.weight"] == 0.25
    assert scales[f"{backbone}stem.patches.projection.weight"] == 0.125


def test_options_without_effect_are_refused() -> None:
    base = ["data.shards=s", "run.dir=r"]
    for word, field in (
        ("optimizer.layer_decay=0.5", "optimizer.layer_decay"),
        ("optimizer.layer_decay=0", "optimizer.layer_decay"),
        ("optimizer.name=sgd", "optimizer.name"),
        ("optimizer.decay=some", "optimizer.decay"),
        ("zero_stage=3", "zero_stage"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config("pal_i3d_k400", [*base, word])
        assert caught.value.field == field
    with pytest.raises(ConfigError, match="without optimizer"):
        OptimizerConfig(decay="matrices", weight_decay=0)
