"""Shipped configs train through the real command: a few here, all of them in benchmarks/models/ablations.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.models.ablations import train
from benchmarks.models.common import ROOT
from shards.cli import main as pal_shard
from tests.support.full import rest

pytestmark = pytest.mark.slow

CONFIGS = ROOT / "configs" / "pretrain"
STEPS = 20


@pytest.fixture(scope="module")
def labelled_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 24 training and 8 validation clips of 70 frames in 4 classes."""
    folder = tmp_path_factory.mktemp("labelled-set")
    rows = ["path,start,end,split,label"]
    for number in range(32):
        source = f"testsrc2=s=48x36:r=25:d=2.8,hue=h={number * 11},rotate={number % 4}*t"
        command = f"ffmpeg -v error -f lavfi -i {source} -c:v libx264 -preset ultrafast -pix_fmt yuv420p"
        subprocess.run([*command.split(), str(folder / f"{number}.mp4")], check=True)
        rows.append(f"{number}.mp4,,,{'val' if number % 4 == 3 else 'train'},{number % 4}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    words = ["build", str(folder / "clips.csv"), str(folder / "set"), "--video-root", str(folder)]
    assert pal_shard([*words, "--split-column", "--with-labels", "--short-side", "36", "--quiet"]) == 0
    return folder / "set"


@pytest.mark.parametrize("name", ["pal_modern", "tac_i3d_k400", *rest(["rspnet_i3d_k400"])])
def test_a_config_trains(name: str, labelled_set: Path, tmp_path: Path) -> None:
    found = train(CONFIGS / f"{name}.yaml", str(labelled_set), tmp_path / "run", STEPS)
    assert found["sound"], found
    assert found["steps"] == STEPS
    assert found["state"] == "done"
