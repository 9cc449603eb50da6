"""Weights beside an encoder's config: one file, pieces with an index, and folders that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pal_ds.config import ConfigError
from pal_ds.formats.encoder_folder import read_files, weights_files


def names(folder: Path) -> list[str]:
    return [path.name for path in weights_files(f"hf:{folder}")]


def test_safetensors_come_first_and_a_config_alone_has_none(tmp_path: Path) -> None:
    assert names(tmp_path) == []
    (tmp_path / "pytorch_model.bin").write_bytes(b"b")
    assert names(tmp_path) == ["pytorch_model.bin"]
    (tmp_path / "model.safetensors").write_bytes(b"s")
    assert names(tmp_path) == ["model.safetensors"]
    assert read_files(weights_files(f"hf:{tmp_path}")) == [(b"s", str(tmp_path / "model.safetensors"))]
    assert weights_files(f"hf:{tmp_path}/config.json") == []


def test_one_file_of_the_authors_is_taken_and_several_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth").write_bytes(b"")
    assert names(tmp_path) == ["vit_b.pth"]
    (tmp_path / "vitl.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"vit_b\.pth, vitl\.pt"):
        names(tmp_path)


def test_pieces_are_those_of_the_index_and_lie_in_the_folder(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    for piece in ("a.safetensors", "b.safetensors"):
        (tmp_path / piece).write_bytes(b"")
    index.write_text(
        json.dumps({"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}})
    )
    assert names(tmp_path) == ["a.safetensors", "b.safetensors"]
    for content, word in (
        ({"weight_map": {"x": "../a.safetensors"}}, "outside of the folder"),
        ({"weight_map": {"x": "/etc/passwd"}}, "outside of the folder"),
        ({"weight_map": {"x": "c.safetensors"}}, "not there"),
        ({}, "not readable"),
    ):
        index.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=word):
            names(tmp_path)
