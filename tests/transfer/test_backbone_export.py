"""The bare backbone: found in runs and checkpoints, exported, and loaded strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from pal_ds.formats.backbone_file import BackboneError, weights_digest
from pal_ds.models import build_backbone
from pal_ds.transfer.backbone_export import export_backbone, find_checkpoint, load_backbone
from tests.support.extract_fixtures import write_checkpoint


def test_run_checkpoint_and_file_give_the_same_network(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "run")
    out = tmp_path / "backbone.safetensors"
    exported = export_backbone(str(tmp_path / "run"), str(out))
    clips = torch.rand(2, 3, 8, 32, 32)
    outputs = []
    for source in (tmp_path / "run", folder, out):
        backbone, spec = load_backbone(str(source))
        assert not backbone.training
        assert not any(parameter.requires_grad for parameter in backbone.parameters())
        assert spec.digest == exported.digest
        assert (spec.backbone, spec.clip_frames, spec.size) == ("i3d", 8, 32)
        outputs.append(backbone(clips))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert outputs[0].shape == (2, spec.feature_dim)


def test_exported_file_has_plain_keys_and_the_agreed_metadata(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "run")
    out = tmp_path / "backbone.safetensors"
    export_backbone(str(tmp_path / "run"), str(out))
    with safetensors.safe_open(str(out), "pt") as file:
        metadata, keys = file.metadata(), set(file.keys())
    assert metadata["format"] == "pal-backbone/1"
    assert json.loads(metadata["mean"]) == [0.485, 0.456, 0.406]
    # Loadable without this module: by name, width and options of the header alone.
    plain = build_backbone(
        metadata["backbone"], width=float(metadata["width"]), **json.loads(metadata["options"])
    )
    plain.load_state_dict(safetensors.torch.load_file(str(out)), strict=True)
    assert keys == set(plain.state_dict())
    assert int(metadata["feature_dim"]) == plain.feature_dim


def test_newest_committed_checkpoint_wins(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, step=9, seed=1)
    newest = write_checkpoint(tmp_path, step=100, seed=2)
    unfinished = write_checkpoint(tmp_path, step=200, seed=3, committed=False)
    assert find_checkpoint(str(tmp_path)) == str(newest)
    with pytest.raises(BackboneError, match="COMMITTED"):
        find_checkpoint(str(unfinished))


@pytest.mark.parametrize("made", ["nothing", "empty run", "foreign file", "truncated file"])
def test_sources_without_a_backbone_are_refused(tmp_path: Path, made: str) -> None:
    source = tmp_path / "x.safetensors"
    if made == "nothing":
        source = tmp_path / "absent"
    elif made == "empty run":
        source = tmp_path / "run"
        (source / "checkpoints").mkdir(parents=True)
    elif made == "foreign file":
        source.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}))
    else:
        source.write_bytes(safetensors.torch.save({"a": torch.zeros(1)})[:-2])
    with pytest.raises(BackboneError):
        load_backbone(str(source))


def test_missing_and_extra_tensors_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    tensors = safetensors.torch.load_file(str(folder / "model.safetensors"))
    name = next(key for key in tensors if key.startswith("query_encoder.backbone."))
    for change in ({}, {"query_encoder.backbone.extra": torch.zeros(1)}):
        changed = {key: value for key, value in tensors.items() if key != name or change} | change
        (folder / "model.safetensors").write_bytes(safetensors.torch.save(changed))
        with pytest.raises(BackboneError, match="don't fit"):
            load_backbone(str(tmp_path))


def test_digest_tells_values_names_and_shapes_apart() -> None:
    base = {"a": torch.arange(4.0), "b": torch.zeros(2)}
    others = [
        {"a": torch.arange(4.0) + 1e-6, "b": torch.zeros(2)},
        {"c": torch.arange(4.0), "b": torch.zeros(2)},
        {"a": torch.arange(4.0).view(2, 2), "b": torch.zeros(2)},
    ]
    reordered = {"b": base["b"], "a": base["a"]}
    assert weights_digest(base) == weights_digest(reordered)
    assert len({weights_digest(tensors) for tensors in (base, *others)}) == 4


def test_untrained_networks_are_drawn_from_their_seed() -> None:
    one, spec = load_backbone("random:i3d@0.125#3")
    again, same = load_backbone("random:i3d@0.125#3")
    assert spec == same
    assert (spec.backbone, spec.width, spec.feature_dim, spec.clip_frames) == ("i3d", 0.125, 128, 8)
    assert not any(parameter.requires_grad for parameter in one.parameters())
    assert load_backbone("random:i3d@0.125")[1].digest != spec.digest
    clip = torch.randn(1, 3, 8, 32, 32)
    torch.testing.assert_close(one(clip), again(clip))
    for wrong in ("random:", "random:vgg", "random:i3d@wide", "random:i3d@.", "random:i3d@0"):
        with pytest.raises(BackboneError, match="write random:NAME"):
            load_backbone(wrong)
