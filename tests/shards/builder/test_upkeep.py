"""retry, clean, reshard, preview, dedupe: what is done with a set after, or around, its build."""

from __future__ import annotations

import json
import os
import shutil
import stat

import pytest

from tests.support.clips import make_video
from tests.support.shard_files import files_of, records_of, rejects_of

SMALL = ("--shard-bytes", "60KB", "--quiet")

pytestmark = pytest.mark.slow


def test_retry_gives_the_set_that_an_undisturbed_build_makes(corpus, tmp_path, pal_shard) -> None:
    assert pal_shard("build", corpus, tmp_path / "whole", *SMALL, "--with-labels").returncode == 0
    fake = tmp_path / "bin" / "ffmpeg"
    fake.parent.mkdir()
    real = shutil.which("ffmpeg")
    fake.write_text(f'#!/bin/sh\ncase "$*" in *v003.mp4*) kill -KILL $$;; esac\nexec {real} "$@"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    arguments = (corpus, tmp_path / "out", *SMALL, "--with-labels")
    env = {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    assert pal_shard("build", *arguments, env=env).returncode == 3
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert [reject["source"] for reject in rejects_of(tmp_path / "out")] == ["class 1/v003.mp4"]
    assert pal_shard("retry", *arguments, "--seed", 1).returncode == 2
    assert pal_shard("retry", *arguments).returncode == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert sum(now[name] != moment for name, moment in kept.items()) == 1


def test_retry_of_one_stage_leaves_the_other_rejects_as_they_are(corpus, tmp_path, pal_shard) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(corpus, videos)
    for name in ("broken.mp4", "short.mp4", "sound.mp4"):
        shutil.copy(corpus / "class 0" / "v000.mp4", videos / name)
    (videos / "broken.mp4").write_text("no video")
    make_video(videos / "short.mp4", seconds=0.1)
    (tmp_path / "twin").mkdir()
    shutil.copy(corpus / "class 0" / "v002.mp4", tmp_path / "twin" / "sound.mp4")
    arguments = (videos, tmp_path / "twin", tmp_path / "out", *SMALL)
    assert pal_shard("build", *arguments).returncode == 3
    before = files_of(tmp_path / "out")
    stages = {reject["source"]: reject["stage"] for reject in rejects_of(tmp_path / "out")}
    assert stages == {"broken.mp4": "probe", "short.mp4": "verify", "sound.mp4": "duplicate"}
    wrong = pal_shard("retry", *arguments, "--only", "transcode")
    assert (wrong.returncode, "duplicate 1, probe 1, verify 1" in wrong.stderr) == (2, True)
    assert pal_shard("retry", *arguments, "--only", "duplicate").returncode == 2
    # Nothing has changed, so that the retry ends in the same set; only the short clip's shard is made again.
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert pal_shard("retry", *arguments, "--only", "fewer than --min-frames").returncode == 3
    assert files_of(tmp_path / "out") == before
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert sum(now[name] != moment for name, moment in made.items()) == 1
    assert pal_shard("verify", tmp_path / "out").returncode == 0


def test_clean_keeps_a_begun_build_unless_told_otherwise(corpus, tmp_path, pal_shard) -> None:
    task = ("--num-tasks", 2, "--task-index", 0)
    assert pal_shard("build", corpus, tmp_path / "out", *SMALL, *task).returncode == 0
    assert pal_shard("clean", tmp_path / "out").returncode == 2
    assert pal_shard("clean", tmp_path / "out", "--unfinished").returncode == 0
    assert list((tmp_path / "out").iterdir()) == []
    assert pal_shard("build", corpus, tmp_path / "out", *SMALL).returncode == 0
    whole = files_of(tmp_path / "out")
    (tmp_path / "out" / ".train-000000.tar.77-0123abcd").write_bytes(b"half")
    assert json.loads(pal_shard("clean", tmp_path / "out", "--json").stdout)["removed"]
    assert files_of(tmp_path / "out") == whole
    assert pal_shard("clean", tmp_path / "out").stdout == "nothing to remove\n"


def test_reshard_keeps_keys_sources_labels_and_bytes_of_clips(corpus, tmp_path, pal_shard) -> None:
    assert (
        pal_shard(
            "build", corpus, tmp_path / "old", *SMALL, "--with-labels", "--val-fraction", 0.25
        ).returncode
        == 0
    )
    done = pal_shard(
        "reshard", tmp_path / "old", tmp_path / "new", "--shard-bytes", "1MB", "--with-labels", "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {name: split["shards"] for name, split in result["splits"].items()} == {"train": 1, "val": 1}
    assert records_of(tmp_path / "new") == records_of(tmp_path / "old")
    again = pal_shard("reshard", tmp_path / "old", tmp_path / "small", "--short-side", 64, "--json")
    assert again.returncode == 0, again.stderr
    assert {record["height"] for record in records_of(tmp_path / "small").values()} == {64}
    assert set(records_of(tmp_path / "small")) == set(records_of(tmp_path / "old"))


def test_reshard_holds_out_whole_source_videos(tmp_path, pal_shard) -> None:
    make_video(tmp_path / "videos" / "long.mp4", seconds=4)
    make_video(tmp_path / "videos" / "other.mp4", seconds=2, hue=90)
    rows = ["path,start,end", *(f"long.mp4,{s},{s + 1}" for s in range(3)), "other.mp4,0,1"]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    old = pal_shard("build", tmp_path / "clips.csv", tmp_path / "old", "--video-root", tmp_path / "videos")
    assert old.returncode == 0, old.stderr
    assert pal_shard("reshard", tmp_path / "old", tmp_path / "new", "--val-fraction", 0.4).returncode == 0
    index = json.loads((tmp_path / "new" / "val-000000.index.json").read_bytes())
    records = {record["key"]: source for source, record in records_of(tmp_path / "new").items()}
    assert [records[sample["key"]] for sample in index["samples"]] == ["other.mp4#t=0,1"]


def test_preview_draws_a_page_and_a_picture(corpus, tmp_path, pal_shard) -> None:
    assert pal_shard("build", corpus, tmp_path / "out", *SMALL).returncode == 0
    assert (
        pal_shard("preview", tmp_path / "out", "--out", tmp_path / "sheet.png", "--clips", 3).returncode == 0
    )
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert (
        pal_shard("preview", tmp_path / "out", "--out", tmp_path / "sheet.html", "--clips", 99).returncode
        == 0
    )
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("<figure>") == 12
    assert "class 1/v003.mp4" in page
    assert pal_shard("preview", tmp_path / "out", "--out", tmp_path / "sheet.pdf").returncode == 2


def test_equal_content_is_reported_and_rejected_only_when_asked(tmp_path, pal_shard) -> None:
    video = make_video(tmp_path / "videos" / "b.mp4", seconds=1)
    shutil.copy(video, tmp_path / "videos" / "a.mp4")
    make_video(tmp_path / "videos" / "c.mp4", seconds=1, hue=50)
    told = pal_shard("build", tmp_path / "videos", tmp_path / "out", "--json")
    assert (told.returncode, json.loads(told.stdout)["equal_content"]) == (0, 1)
    done = pal_shard("build", tmp_path / "videos", tmp_path / "deduped", "--dedupe", "content")
    assert done.returncode == 3
    assert rejects_of(tmp_path / "deduped") == [
        {"source": "b.mp4", "stage": "duplicate", "error": "equal content to a.mp4"}
    ]
