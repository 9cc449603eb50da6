"""Model, queue and objective options: the paper's defaults, ranges, settings without effect."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pal_ds.config.base import ConfigError
from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig, check_objective


def test_defaults_are_the_paper() -> None:
    model, queue, objective = ModelConfig(), QueueConfig(), ObjectiveConfig()
    assert (model.backbone, model.width, model.same_padding) == ("i3d", 1.0, True)
    assert (model.embedding_dim, model.temporal_layers, model.final_relu) == (128, 2, True)
    assert (model.momentum, model.temperature, model.norm) == (0.999, 0.07, "clip_and_region")
    assert (queue.size, queue.mask_unfilled, objective.name) == (16384, False, "pal")
    check_objective(objective, model, queue)


@pytest.mark.parametrize("section", [ModelConfig, QueueConfig, ObjectiveConfig])
def test_every_option_is_documented(section: type) -> None:
    assert all(len(field.metadata["help"]) > 10 for field in dataclasses.fields(section))


@pytest.mark.parametrize(
    ("section", "options", "field"),
    [
        (ModelConfig, {"backbone": "c3d"}, "model.backbone"),
        (ModelConfig, {"width": 0.0}, "model.width"),
        (ModelConfig, {"backbone": "s3d", "same_padding": False}, "model.same_padding"),
        (ModelConfig, {"bn_momentum": 0.0}, "model.bn_momentum"),
        (ModelConfig, {"embedding_dim": 1}, "model.embedding_dim"),
        (ModelConfig, {"projector_layers": 0}, "model.projector_layers"),
        (ModelConfig, {"projector_layers": 1, "projector_hidden": 64}, "model.projector_hidden"),
        (ModelConfig, {"projector_hidden": -1}, "model.projector_hidden"),
        (ModelConfig, {"projector_layers": 1, "temporal_layers": 0, "head_bn": True}, "model.head_bn"),
        (ModelConfig, {"temporal_layers": 4}, "model.temporal_layers"),
        (ModelConfig, {"norm": "none"}, "model.norm"),
        (ModelConfig, {"momentum": 1.1}, "model.momentum"),
        (ModelConfig, {"momentum_steps": -1}, "model.momentum_steps"),
        (ModelConfig, {"temperature": 0.0}, "model.temperature"),
        (QueueConfig, {"size": 0}, "queue.size"),
        (ObjectiveConfig, {"name": "byol"}, "objective.name"),
        (ObjectiveConfig, {"negatives": "none"}, "objective.negatives"),
        (ObjectiveConfig, {"dense_weight": -1.0}, "objective.dense_weight"),
        (ObjectiveConfig, {"dropout": 1.0}, "objective.dropout"),
        (ObjectiveConfig, {"label_smoothing": 1.0}, "objective.label_smoothing"),
    ],
)
def test_wrong_values_name_field_value_and_fix(section: type, options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(**options)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "model", "queue", "field"),
    [
        ({"name": "moco"}, {"temporal_layers": 1}, {}, "model.temporal_layers"),
        ({"name": "moco", "dense_weight": 0.1}, {}, {}, "objective.dense_weight"),
        ({"name": "pal", "dropout": 0.1}, {}, {}, "objective.dropout"),
        ({"name": "supervised"}, {"temperature": 0.1}, {}, "model.temperature"),
        ({"name": "supervised"}, {"symmetric": True}, {}, "model.symmetric"),
        ({"name": "supervised"}, {}, {"mask_unfilled": True}, "queue.mask_unfilled"),
        ({"name": "supervised", "negatives": "batch"}, {}, {}, "objective.negatives"),
        ({"negatives": "batch"}, {}, {"mask_unfilled": True}, "queue.mask_unfilled"),
    ],
)
def test_settings_without_effect_are_refused(
    objective: dict[str, Any], model: dict[str, Any], queue: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError, match="remove it") as caught:
        check_objective(ObjectiveConfig(**objective), ModelConfig(**model), QueueConfig(**queue))
    assert caught.value.field == field


def test_baselines_run_with_the_papers_defaults_left_alone() -> None:
    for name in ("moco", "supervised"):
        check_objective(ObjectiveConfig(name=name), ModelConfig(width=0.25), QueueConfig(size=64))
    check_objective(ObjectiveConfig(name="moco"), ModelConfig(temporal_layers=0), QueueConfig())


def test_backbone_options_rebuild_the_network() -> None:
    assert ModelConfig().backbone_options() == {"same_padding": True}
    assert ModelConfig(backbone="s3d").backbone_options() == {}
