"""A published encoder as a source of features, and the exported one: rebuilt without the folder, strictly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pal_ds.config.model import ModelConfig
from pal_ds.formats.backbone_file import BackboneError
from pal_ds.models.backbones import backbone_of
from pal_ds.transfer.backbone_export import export_backbone, load_backbone
from tests.support.encoders import KINDS, hub_state, write_folder

CLIPS = torch.randn(2, 3, 4, 32, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_features_and_an_export_gives_the_same(kind: str, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "encoder", kind, hub_state(kind))
    backbone, spec = load_backbone(source)
    assert (spec.backbone, spec.size, spec.feature_dim) == (f"hf:{kind}", 32, 32)
    assert spec.clip_frames == (4 if kind not in ("dinov2", "clip_vision_model") else 16)
    assert not backbone.training
    exported = str(tmp_path / "backbone.safetensors")
    export_backbone(source, exported)
    shutil.rmtree(tmp_path / "encoder")
    again, other = load_backbone(exported)
    assert (other.digest, other.mean, other.options) == (spec.digest, spec.mean, spec.options)
    with torch.no_grad():
        assert torch.equal(backbone(CLIPS), again(CLIPS))


def test_a_folder_without_weights_or_with_wrong_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no weights"):
        load_backbone(write_folder(tmp_path, "dinov2"))
    state = hub_state("dinov2")
    state.pop("layernorm.weight")
    with pytest.raises(BackboneError, match=r"layernorm\.weight"):
        load_backbone(write_folder(tmp_path, "dinov2", state))
    with pytest.raises(BackboneError, match="no such"):
        load_backbone(f"hf:{tmp_path}/absent")


def test_what_a_run_trains_is_rebuilt_from_its_options(tmp_path: Path) -> None:
    options = {"lora_rank": 2, "pooling": "attentive", "drop_path": 0.1}
    model = ModelConfig(backbone=write_folder(tmp_path, "vjepa2"), **options)
    assert set(model.backbone_options()) == {"encoder", "pooling", "lora_rank", "lora_alpha", "lora_layers"}
    backbone = backbone_of(model)
    assert backbone.drop_path == 0.1
