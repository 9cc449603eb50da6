"""A small real shard set and the real launcher, for the tests of the training room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from launching import Launcher

from shards.cli import main as pal_shard

# The proxy that breaks connections to the S3 server is the sharder's tests'.
sys.path.append(str(Path(__file__).resolve().parents[1] / "shards"))


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 34 training and 6 validation clips, encoded by ffmpeg and packed by pal-shard."""
    folder = tmp_path_factory.mktemp("tiny-set")
    rows = ["path,start,end,split,label"]
    for number in range(40):
        name = f"clip-{number:02d}.mp4"
        source = f"testsrc2=s=48x36:r=25:d=2.4,hue=h={number * 37}:s={1 + number % 3},rotate={number % 5}*t"
        command = f"ffmpeg -v error -f lavfi -i {source} -c:v libx264 -preset ultrafast -pix_fmt yuv420p"
        subprocess.run([*command.split(), str(folder / name)], check=True)
        rows.append(f"{name},,,{'val' if number % 6 == 5 else 'train'},{number % 4}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    words = [
        "build",
        str(folder / "clips.csv"),
        str(folder / "set"),
        "--video-root",
        str(folder),
        "--split-column",
    ]
    options = ["--short-side", "36", "--shard-bytes", "100KB", "--with-labels", "--quiet", "--json"]
    assert pal_shard([*words, *options]) == 0
    return folder / "set"


@pytest.fixture(scope="session")
def launcher() -> Launcher:
    """The launcher."""
    return Launcher()
