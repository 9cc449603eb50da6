"""Encoders of transformers as a config names them: their files say what they take, and wrong values are named."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from pal_ds.config import Config, ConfigError, config_from_tree, load_config, to_tree
from pal_ds.config.encoders import FAMILIES, encoder_of, read_encoder
from pal_ds.config.model import ModelConfig
from pal_ds.training.run_identity import check_identity, identity_of
from tests.support.encoders import KINDS, tiny_config, write_folder

BASE = ["data.shards=s", "run.dir=r", "synthesis.clip_frames=4", "synthesis.size=32"]


def config(backbone: str, *words: str) -> Config:
    return load_config("pal_i3d_k400", [*BASE, f"model.backbone={backbone}", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_are_the_librarys(kind: str) -> None:
    folder, stem = {
        "videomae": ("videomae", "VideoMAE"),
        "timesformer": ("timesformer", "Timesformer"),
        "vivit": ("vivit", "Vivit"),
        "vjepa2": ("vjepa2", "VJEPA2"),
        "dinov2": ("dinov2", "Dinov2"),
        "clip_vision_model": ("clip", "CLIPVision"),
    }[kind]
    module = importlib.import_module(f"transformers.models.{folder}.configuration_{folder}")
    theirs, family = getattr(module, f"{stem}Config")(), FAMILIES[kind]
    assert theirs.model_type == kind
    encoder = encoder_of(json.dumps({"config": {"model_type": kind}, "mean": [0] * 3, "std": [1] * 3}))
    assert encoder.size == getattr(theirs, family.size[0])
    assert encoder.layers == theirs.num_hidden_layers
    if family.frames:
        assert encoder.frames == getattr(theirs, family.frames[0])
    tubelet = getattr(theirs, "tubelet_size", 1)
    assert (encoder.tubelet, encoder.patch) == (
        (tubelet[0], tubelet[-1]) if isinstance(tubelet, (list, tuple)) else (tubelet, theirs.patch_size)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_holds_all_that_its_encoder_needs(kind: str, tmp_path: Path) -> None:
    backbone = write_folder(tmp_path / "encoder", kind)
    made = config(backbone)
    assert "id2label" not in made.model.encoder
    assert "auto_map" not in made.model.encoder
    identity = identity_of(made, "digest")
    for file in (tmp_path / "encoder").iterdir():
        file.unlink()
    assert config_from_tree(json.loads(json.dumps(to_tree(made)))) == made
    moved = config(write_folder(tmp_path / "moved", kind))
    check_identity(identity, identity_of(moved, "digest"))
    write_folder(tmp_path / "moved", kind, num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"model\.encoder"):
        check_identity(identity, identity_of(config(f"hf:{tmp_path}/moved"), "digest"))


@pytest.mark.parametrize(
    ("kind", "words", "field", "fix"),
    [
        ("videomae", ["synthesis.clip_frames=8"], "synthesis.clip_frames", "set synthesis.clip_frames=4"),
        ("videomae", ["synthesis.size=48"], "synthesis.size", "set synthesis.size=32"),
        ("timesformer", ["synthesis.clip_frames=6"], "synthesis.clip_frames", "set synthesis.clip_frames=4"),
        ("vivit", ["synthesis.size=64"], "synthesis.size", "set synthesis.size=32"),
        ("vjepa2", ["synthesis.clip_frames=5"], "synthesis.clip_frames", "set synthesis.clip_frames=4"),
        ("vjepa2", ["synthesis.size=50"], "synthesis.size", "set synthesis.size=48"),
        ("dinov2", ["synthesis.size=40"], "synthesis.size", "set synthesis.size=32"),
        ("clip_vision_model", ["synthesis.size=48"], "synthesis.size", "set synthesis.size=32"),
        ("videomae", ["model.pooling=cls"], "model.pooling", "no class token"),
        ("dinov2", ["model.pooling=layer:3"], "model.pooling", "layers 1 to 2"),
        ("dinov2", ["model.pooling=last4"], "model.pooling", "no four layers"),
        ("dinov2", ["model.pooling=max"], "model.pooling", "layer:K"),
        ("dinov2", ["model.width=0.5"], "model.width", "one width"),
        ("dinov2", ["model.bn_momentum=0.2"], "model.bn_momentum", "no BatchNorm"),
        ("dinov2", ["model.frozen_stages=4"], "model.frozen_stages", "up to 3"),
        ("dinov2", ["model.lora_alpha=4"], "model.lora_alpha", r"without model\.lora_rank"),
        ("dinov2", ["model.lora_rank=2", "model.frozen_stages=1"], "model.frozen_stages", "no effect"),
        ("dinov2", ["model.drop_path=1"], "model.drop_path", "below 1"),
        ("dinov2", ["augment.mean=[0.1,0.1,0.1]"], "augment.mean", r"0\.485"),
        ("dinov2", ["model.same_padding=false"], "model.same_padding", "no effect"),
    ],
)
def test_what_an_encoder_cannot_have_is_refused(
    kind: str, words: list[str], field: str, fix: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=fix) as caught:
        config(write_folder(tmp_path, kind), *words)
    assert caught.value.field == field


@pytest.mark.parametrize("kind", ["vjepa2", "dinov2"])
def test_lengths_and_sizes_that_positions_allow(kind: str, tmp_path: Path) -> None:
    made = config(write_folder(tmp_path, kind), "synthesis.clip_frames=6", "synthesis.size=64")
    assert (made.synthesis.clip_frames, made.synthesis.size) == (6, 64)


def test_options_of_encoders_have_no_effect_elsewhere() -> None:
    for name, value in (("pooling", "cls"), ("lora_rank", 2), ("drop_path", 0.1), ("frozen_stages", 1)):
        with pytest.raises(ConfigError, match=r"no effect with model\.backbone=i3d"):
            ModelConfig(**{name: value})


def test_colours_are_those_of_the_encoder(tmp_path: Path) -> None:
    backbone = write_folder(tmp_path, "clip_vision_model")
    assert config(backbone).augment.mean[0] == pytest.approx(0.48145466)
    preprocessor = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    made = config(backbone)
    assert (made.augment.mean, made.augment.std) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    again = config(backbone, "augment.mean=[0.1,0.2,0.3]")
    assert again.augment == made.augment


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[]", "no JSON object"),
        ("{", "not readable as JSON"),
        ('{"model_type": "bert"}', "not supported; use one of videomae"),
        ("{}", "not supported"),
    ],
)
def test_a_file_that_is_no_known_config_is_refused(content: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=word):
        read_encoder(f"hf:{tmp_path}")
    with pytest.raises(ConfigError, match=r"no such config\.json"):
        read_encoder(f"hf:{tmp_path}/absent")


def test_a_whole_clip_model_gives_its_vision_part(tmp_path: Path) -> None:
    vision = tiny_config("clip_vision_model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    assert encoder_of(read_encoder(f"hf:{tmp_path}/config.json")).kind == "clip_vision_model"


def test_dropout_does_not_go_with_recomputing(tmp_path: Path) -> None:
    options: dict[str, Any] = {"hidden_dropout_prob": 0.1}
    with pytest.raises(ConfigError, match="dropout"):
        ModelConfig(backbone=write_folder(tmp_path, "vivit", **options), recompute_stages=1)


def test_another_folder_beside_a_saved_encoder_is_refused(tmp_path: Path) -> None:
    made = ModelConfig(backbone=write_folder(tmp_path / "one", "dinov2"))
    other = write_folder(tmp_path / "two", "videomae")
    with pytest.raises(ConfigError, match=r"remove model\.encoder"):
        dataclasses.replace(made, backbone=other)
