"""Training from tars of other tools, where they lie: a plain webdataset set on disk, video2dataset's layout in S3."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from launch.demo.s3_server import S3Server
from pal_ds import storage
from shards.cli import main as pal_shard
from tests.support.foreign_tars import shard_writer_set, sums, video2dataset_set
from tests.support.launching import Launcher, training_rows, words

pytestmark = pytest.mark.slow
SHORT = ("run.max_steps=3", "schedule.name=constant", "validation.every_steps=0")


@pytest.fixture(scope="module")
def videos(tiny_set: Path) -> list[Path]:
    return sorted(tiny_set.parent.glob("clip-*.mp4"))


def check_run(run: Path) -> None:
    assert [row["step"] for row in training_rows(run).values()] == [1, 2, 3]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert "replaced" not in {event["event"] for event in events}


def test_a_set_made_by_webdataset(videos: list[Path], launcher: Launcher, tmp_path: Path) -> None:
    tars = shard_writer_set(tmp_path / "tars", videos, per_tar=8)
    before = sums(tars)
    assert pal_shard(["adopt", str(tars), str(tmp_path / "set"), "--val-fraction", "0.2", "--quiet"]) == 0
    done = launcher.run_ranks(0, words(tmp_path / "set", tmp_path / "run", *SHORT))
    assert done.returncode == 0, done.stderr[-3000:]
    check_run(tmp_path / "run")
    assert sums(tars) == before


def test_video2datasets_layout_in_s3_on_two_ranks(
    videos: list[Path], launcher: Launcher, s3_env: S3Server, tmp_path: Path
) -> None:
    place = storage.join(s3_env.bucket("adopted"), tmp_path.name)
    tars = video2dataset_set(tmp_path / "tars", videos[:24], per_tar=6)
    for path in tars.iterdir():
        storage.upload_file(path, storage.join(place, "tars", path.name))
    before = sums(tars)
    assert pal_shard(["adopt", f"{place}/tars", f"{place}/set", "--quiet"]) == 0
    manifest = storage.read_bytes(f"{place}/set/manifest.json")
    for secret in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"):
        assert s3_env.env[secret].encode() not in manifest
    done = launcher.run_ranks(2, words(f"{place}/set", tmp_path / "run", *SHORT))
    assert done.returncode == 0, done.stderr[-3000:]
    check_run(tmp_path / "run")
    for name, digest in before.items():
        assert hashlib.sha256(storage.read_bytes(storage.join(place, "tars", name))).hexdigest() == digest
