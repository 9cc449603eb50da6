"""Inputs that break pipelines: each ends in a shard with the right frame count, or rejected at the right stage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.clips import HOSTILE, make_hostile
from tests.support.shard_files import records_of, rejects_of


@pytest.mark.slow
def test_every_hostile_input_is_packed_right_or_rejected_at_its_stage(tmp_path: Path, pal_shard) -> None:
    make_hostile(tmp_path / "videos")
    done = pal_shard("build", tmp_path / "videos", tmp_path / "out", "--json")
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    records = records_of(tmp_path / "out")
    rejects = {reject["source"]: reject for reject in rejects_of(tmp_path / "out")}
    assert result["inputs"] == result["clips"] + result["rejected"] == len(records) + len(rejects)
    assert list(rejects) == sorted(rejects, key=os.fsencode)
    wrong = []
    for kind, (name, _, expected) in HOSTILE.items():
        found = (
            records[name]["frames"]
            if name in records
            else rejects[name]["stage"]
            if name in rejects
            else "none"
        )
        right = found == expected or expected == "any" or (expected == "frames" and isinstance(found, int))
        if not right:
            wrong.append((kind, found, expected))
    assert wrong == []
    assert records["not-utf8-\udcff.mp4"]["frames"] == 50
    assert (records["rotated.mov"]["width"], records["rotated.mov"]["height"]) == (128, 170)
    assert (records["anamorphic.mp4"]["width"], records["anamorphic.mp4"]["height"]) == (342, 128)
    assert str(tmp_path) not in (tmp_path / "out" / "rejects.jsonl").read_text()
    assert pal_shard("verify", tmp_path / "out", "--decode").returncode == 0


@pytest.mark.slow
def test_a_tool_that_hangs_costs_one_clip(corpus: Path, tmp_path: Path, pal_shard, monkeypatch) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    real = os.popen("command -v ffmpeg").read().strip()
    (fake / "ffmpeg").write_text(
        f'#!/bin/sh\ncase "$*" in *v003.mp4*) sleep 600 & wait;; *v004.mp4*) kill -SEGV $$;; esac\nexec {real} "$@"\n'
    )
    (fake / "ffmpeg").chmod(0o755)
    env = {"PATH": f"{fake}:{os.environ['PATH']}"}
    done = pal_shard("build", corpus, tmp_path / "out", "--timeout", 8, env=env)
    assert done.returncode == 3, done.stderr
    found = {reject["source"]: (reject["stage"], reject["error"]) for reject in rejects_of(tmp_path / "out")}
    assert found == {
        "class 1/v003.mp4": ("transcode", "timed out (8 s)"),
        "class 0/v004.mp4": ("transcode", "killed by signal 11"),
    }
    assert len(records_of(tmp_path / "out")) == 10


def test_an_hour_is_refused_with_its_length(tmp_path: Path, pal_shard) -> None:
    from tests.support.clips import ffmpeg

    (tmp_path / "videos").mkdir()
    ffmpeg(
        *("-f", "lavfi", "-i", "color=s=64x48:r=1:d=3600", "-c:v", "libx264", "-preset", "ultrafast"),
        tmp_path / "videos" / "hour.mp4",
    )
    done = pal_shard("build", tmp_path / "videos", tmp_path / "out")
    assert done.returncode == 3
    reject = rejects_of(tmp_path / "out")[0]
    assert reject["stage"] == "probe"
    assert reject["error"].startswith("3600.0 s are more than --max-seconds 600")
