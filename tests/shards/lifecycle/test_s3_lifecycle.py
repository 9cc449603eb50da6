"""The life of a set in an object store, which knows no rename: appended to, taken down from, killed on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.demo.s3_server import S3Server
from pal_ds import storage
from pal_ds.formats import shardset
from shards.cli import main as pal_shard
from shards.inspection.verify import verify
from tests.support.foreign_tars import shard_writer_set
from tests.support.reading_sets import clips_of, places_of

pytestmark = pytest.mark.slow


def test_a_sets_life_in_s3(corpus: Path, dest: Path, s3_env: S3Server, tmp_path: Path) -> None:
    url = storage.join(s3_env.bucket("lifecycle"), tmp_path.name)
    for path in dest.iterdir():
        storage.upload_file(path, storage.join(url, path.name))
    first = shardset.load_manifest(url)
    places, clips = places_of(url, first), clips_of(url)
    assert pal_shard(["append", str(corpus), url, "--shard-bytes", "120KB", "--quiet"]) == 0
    keys = [places[0][0], places[-1][0]]
    (tmp_path / "keys").write_text("\n".join(keys))
    command = [sys.executable, "-m", "shards.cli", "remove", url, "--keys", str(tmp_path / "keys")]
    env, dice = {**os.environ, **s3_env.env}, random.Random(1)
    for _ in range(3):
        process = subprocess.Popen([*command, "--purge", "--quiet"], env=env, stdout=subprocess.DEVNULL)
        time.sleep(dice.uniform(0.5, 2.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert clips_of(url).keys() >= clips.keys() - set(keys)
    assert subprocess.run([*command, "--purge", "--quiet"], env=env, check=False).returncode == 0
    newest = shardset.load_manifest(url)
    assert (newest.generation, newest.removed, newest.splits["train"].clips) == (3, 2, 10)
    assert verify(url, quiet=True).problems == []
    rest = {key: value for key, value in clips.items() if key not in keys}
    assert clips_of(url, first) == rest
    assert places_of(url, first) == places


def test_tars_in_s3_are_sources_of_a_build(corpus: Path, s3_env: S3Server, tmp_path: Path) -> None:
    """Their headers are read by range, and each video by its own."""
    videos = sorted(corpus.rglob("*.mp4"))[:6]
    tars = shard_writer_set(tmp_path / "tars", videos, per_tar=3)
    url = storage.join(s3_env.bucket("lifecycle"), tmp_path.name)
    for path in tars.iterdir():
        storage.upload_file(path, storage.join(url, path.name))
    options = ["--copy", "--with-labels", "--label-member", "cls", "--quiet"]
    assert pal_shard(["build", url, str(tmp_path / "remote"), *options]) == 0
    assert pal_shard(["build", str(tars), str(tmp_path / "local"), *options]) == 0
    assert clips_of(tmp_path / "remote") == clips_of(tmp_path / "local")
    assert len(clips_of(tmp_path / "remote")) == 6
    index = shardset.load_index(str(tmp_path / "remote"), "train-000000.tar")
    assert {sample.key for sample in index.samples} == {
        shardset.sample_key(f"clips-{number // 3:04d}.tar/clip{number:05d}.mp4") for number in range(6)
    }
