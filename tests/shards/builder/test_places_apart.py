"""SOURCE and DEST by other names for one place: --overwrite never deletes what is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shards.cli import main as pal_shard
from tests.support.foreign_tars import sums


@pytest.fixture
def tars(dest: Path, tmp_path: Path) -> Path:
    """Tars that are named like a set's own, alone in a folder."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for path in dest.glob("*.tar"):
        shutil.copy(path, folder)
    return folder


def test_adopted_tars_are_not_overwritten_by_another_name_of_their_folder(
    tars: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "link").symlink_to(tars)
    (tmp_path / "links").mkdir()
    for path in tars.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    before = sums(tars)
    for source, dest in (
        (tmp_path / "link", tars),
        (tars, tmp_path / "link"),
        (tars, f"{tmp_path}/x/../tars"),
        (tmp_path / "links", tars),
        (tars, f"file://{tmp_path}//link/"),
    ):
        assert pal_shard(["adopt", str(source), str(dest), "--overwrite", "--quiet"]) == 2
        assert "holds SOURCE's 'train-000000.tar'" in capsys.readouterr().err
        assert sums(tars) == before


def test_sources_of_a_build_are_not_overwritten_by_another_name(
    tars: Path, dest: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "link").symlink_to(tars)
    (tmp_path / "set link").symlink_to(dest)
    (tmp_path / "clips.csv").write_text("path\ntrain-000000.tar\n")
    adopted = tmp_path / "adopted"
    assert pal_shard(["adopt", str(tars), str(adopted), "--quiet"]) == 0
    kept = sums(tars), sums(dest)
    for words in (
        ("build", tmp_path / "link", tars),
        ("build", tars / "train-000000.tar", tmp_path / "link"),
        ("build", tmp_path / "clips.csv", tmp_path / "link", "--video-root", tars),
        ("reshard", tmp_path / "set link", dest),
        ("reshard", adopted, tmp_path / "link"),
    ):
        assert pal_shard([*map(str, words), "--overwrite", "--quiet"]) == 2, words
        error = capsys.readouterr().err
        assert "sources lie there" in error or "SOURCE and DEST are the same folder" in error
        assert (sums(tars), sums(dest)) == kept
