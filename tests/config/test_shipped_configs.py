"""Configs by name: every shipped file has its own name, a path comes first, and a wrong name lists the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pal_ds.cli.pretrain import main
from pal_ds.config import ConfigError, load_config
from pal_ds.config.loading import load_tree
from pal_ds.config.shipped_configs import find_config, folder, shipped

ROOT = Path(__file__).resolve().parents[2]
PLACES = ["data.shards=/s", "run.dir=/r"]


def test_every_file_has_a_name_of_its_own():
    files = {path for path in (ROOT / "configs").rglob("*") if path.is_file()}
    assert folder() == ROOT / "configs"
    assert set(shipped().values()) == files
    assert {"demo", "pal_i3d_k400", "table3_0_moco", "tad_thumos_gtad"} <= set(shipped())


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_name_gives_what_its_path_gives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / name).mkdir()  # a run folder of the same name is not mistaken for a file
    monkeypatch.chdir(tmp_path)
    assert load_tree(name) == load_tree(shipped()[name])


def test_an_existing_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("run: {seed: 7}\n")
    assert load_tree("demo") == {"run": {"seed": 7}}


def test_a_base_may_be_a_name(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: pal_i3d_k400\nrun: {epochs: 3}\n")
    assert load_config(mine, PLACES) == load_config("pal_i3d_k400", [*PLACES, "run.epochs=3"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pal_i3d_k40", ["--config = 'pal_i3d_k40'", "did you mean pal_i3d_k400?", "tad_thumos_gtad"]),
        ("configs/demo.yml", ["no such file", "did you mean demo?"]),
        ("nothing-like-it", ["names are demo; pretrain: aot_i3d_k400, ", "; transfer: "]),
        (".", ["is a folder"]),
    ],
)
def test_what_is_no_config_is_told_in_one_line(text: str, parts: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        find_config(text)
    assert "\n" not in str(error.value)
    assert [part for part in parts if part not in str(error.value)] == []


def test_the_command_lists_names_and_files(capsys: pytest.CaptureFixture[str]):
    assert main(["configs"]) == 0
    listed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {name: Path(path) for name, path in listed.items()} == shipped()
