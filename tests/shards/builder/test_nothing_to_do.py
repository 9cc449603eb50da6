"""Sources without any input: refused before anything is written, with what was seen; and ``--version``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pal_ds import __version__
from shards.cli import main as pal_shard


def _tars(folder: Path) -> None:
    for number in range(2):
        (folder / f"train-{number:06d}.tar").write_bytes(bytes(1024))
    (folder / "README").write_text("x")


def _texts(folder: Path) -> None:
    (folder / "deeper").mkdir()
    (folder / "deeper" / "notes.TXT").write_text("x")


CASES = {
    "nothing": (lambda folder: None, "", "files seen: none"),
    "other files": (_texts, "", "files seen: 1 .txt"),
    "tars only": (_tars, "", "files seen: 2 .tar, 1 no ending): give a folder of videos, a .csv of clips, tars"),
    "a header alone": (
        lambda folder: (folder / "clips.csv").write_text("path,start,end\n"), "/clips.csv", "has a header and no row",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--copy"]])
def test_a_source_without_input_is_refused_and_nothing_is_written(
    case: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill, inside, seen = CASES[case]
    source, dest = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    fill(source)
    assert pal_shard(["build", f"{source}{inside}", str(dest), "--quiet", *more]) == 2
    error = capsys.readouterr().err
    assert seen in error
    assert error.count("\n") == 1
    assert not dest.exists()


def test_one_empty_source_of_several_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    places = [str(corpus), str(tmp_path / "empty"), str(tmp_path / "out")]
    assert pal_shard(["build", *places, "--quiet"]) == 2
    assert f"{tmp_path}/empty: no video in it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["videos", "tars"])
def test_reshard_of_no_set_is_refused(
    source: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tars").mkdir()
    _tars(tmp_path / "tars")
    place = str(corpus) if source == "videos" else str(tmp_path / "tars")
    assert pal_shard(["reshard", place, str(tmp_path / "out"), "--quiet"]) == 2
    assert "is no shard set (no manifest.json in it)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["pal-shard", "pal-eval"])
def test_version(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from pal_ds.cli.evaluate import main as pal_eval

    main = {"pal-shard": pal_shard, "pal-eval": pal_eval}[command]
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{command} {__version__}\n"


def test_the_error_is_one_object_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    assert pal_shard(["build", str(tmp_path / "source"), str(tmp_path / "out"), "--json"]) == 2
    assert "no video in it" in json.loads(capsys.readouterr().out)["error"]
