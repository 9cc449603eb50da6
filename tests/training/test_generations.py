"""A run on a set that grows and shrinks goes on with the generation it began with, without what was taken down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pal_ds.formats import shardset
from shards.cli import main as pal_shard
from tests.support.clips import make_video
from tests.support.launching import Launcher, training_rows, words

pytestmark = pytest.mark.slow
OPTIONS = ("checkpoint.every_steps=2", "validation.every_steps=0")


def events_of(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_an_old_run_resumes_on_its_generation_and_replaces_the_clips_taken_down(
    tiny_set: Path, launcher: Launcher, tmp_path: Path
) -> None:
    dest = Path(shutil.copytree(tiny_set, tmp_path / "set"))
    run = tmp_path / "run"

    def train(steps: int) -> str:
        done = launcher.run_ranks(0, words(dest, run, *OPTIONS, f"run.max_steps={steps}"))
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    train(2)
    make_video(tmp_path / "more" / "new.mp4", seconds=2, size="64x48")
    (tmp_path / "more.csv").write_text("path,split,label\nnew.mp4,train,0\n")
    appended = ["append", str(tmp_path / "more.csv"), str(dest), "--video-root", str(tmp_path / "more")]
    assert pal_shard([*appended, "--quiet"]) == 0
    key = shardset.load_index(str(dest), "train-000000.tar").samples[0].key
    (tmp_path / "keys").write_text(key)
    assert pal_shard(["remove", str(dest), "--keys", str(tmp_path / "keys"), "--purge", "--quiet"]) == 0
    assert not (dest / "train-000000.tar").exists()

    said = train(4)
    assert "this run goes on with generation 1" in said
    (resumed,) = events_of(run, "resume")
    assert (resumed["generation"], resumed["newest_generation"]) == (1, 3)
    replaced = events_of(run, "replaced")
    assert replaced and {event["key"] for event in replaced} == {key}
    assert all("was taken down" in event["error"] for event in replaced)
    assert list(training_rows(run)) == [1, 2, 3, 4]
