"""Sets from elsewhere: names in their files lead nowhere outside of the folders that are worked in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.cli import main as pal_shard
from tests.support.foreign_tars import shard_writer_set
from tests.support.shard_files import files_of


def _with(path: Path, **fields: object) -> None:
    document = json.loads(path.read_bytes())
    document["samples"][0] |= fields
    path.write_text(json.dumps(document))


@pytest.fixture
def adopted(corpus: Path, tmp_path: Path) -> Path:
    tars = shard_writer_set(tmp_path / "tars", sorted(corpus.rglob("*.mp4"))[:2], per_tar=2)
    assert pal_shard(["adopt", str(tars), str(tmp_path / "set"), "--quiet"]) == 0
    return tmp_path / "set"


@pytest.mark.parametrize(
    "words", [("verify", "--decode"), ("reshard", "OUT"), ("preview", "--out", "OUT.png")]
)
def test_a_key_that_is_a_path_is_refused(
    words: tuple[str, ...], adopted: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    _with(adopted / "train-000000.index.json", key="../../escaped")
    before = files_of(tmp_path)
    command = [words[0], str(adopted), *(word.replace("OUT", str(tmp_path / "out")) for word in words[1:])]
    assert pal_shard(command) in (1, 2)
    found = capsys.readouterr()
    assert "'../../escaped' is not a plain name" in found.out + found.err
    assert files_of(tmp_path) == before


def test_a_member_whose_ending_is_a_path_is_worked_on_in_scratch(
    adopted: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    _with(adopted / "train-000000.index.json", member="a./../../../escaped")
    assert pal_shard(["reshard", str(adopted), str(tmp_path / "out"), "--quiet"]) == 0
    assert not [name for name in files_of(tmp_path) if "escaped" in name]
    assert pal_shard(["verify", str(adopted), "--decode", "--quiet"]) == 0
