"""What a run starts from: an encoder's folder, given weights, or neither, and what it says of its first losses."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pal_ds.config import Config, ConfigError, load_config
from pal_ds.models import Objective, build_objective
from pal_ds.training.warm_start import warm_start
from tests.support.encoders import hub_state, write_folder

BASE = ["data.shards=s", "run.dir=r", "synthesis.clip_frames=4", "synthesis.size=32", "queue.size=8"]


def started(backbone: str, *words: str) -> tuple[Config, Objective]:
    config = load_config("pal_i3d_k400", [*BASE, f"model.backbone={backbone}", *words])
    torch.manual_seed(0)
    objective = build_objective(config.objective, config.model, config.queue)
    warm_start(objective, config)
    return config, objective


def test_both_encoders_start_from_the_weights_of_the_folder(tmp_path: Path) -> None:
    state = hub_state("dinov2")
    _, objective = started(write_folder(tmp_path, "dinov2", state))
    for encoder in ("query_encoder", "key_encoder"):
        norm = objective.state_dict()[f"{encoder}.backbone.norm.weight"]
        assert torch.equal(norm, state["layernorm.weight"])


def test_given_weights_go_with_the_config_alone(tmp_path: Path) -> None:
    backbone, state = write_folder(tmp_path, "dinov2", hub_state("dinov2")), hub_state("dinov2", seed=9)
    save_file(state, tmp_path.parent / "other.safetensors")
    weights = f"model.weights={tmp_path.parent / 'other.safetensors'}"
    with pytest.raises(ConfigError, match=r"config\.json"):
        started(backbone, weights)
    _, objective = started(f"{backbone}/config.json", weights)
    assert torch.equal(objective.backbone.norm.weight, state["layernorm.weight"])


def test_a_random_start_and_meaningless_first_losses_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = write_folder(tmp_path, "dinov2")
    with caplog.at_level(logging.WARNING):
        started(backbone)
        started(backbone, "queue.mask_unfilled=true")
    text = caplog.text
    assert "starts random" in text
    assert "queue.mask_unfilled = false" in text
    assert "objective.negatives = 'queue'" in text
    caplog.clear()
    started(backbone, "queue.mask_unfilled=true", "objective.negatives=both", "model.head_bn=true")
    assert "first" not in caplog.text
