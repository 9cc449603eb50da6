"""pal-shard build --chunk end to end: names, rules, resumption, equal bytes."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest

from tests.shards.builder.test_kill import kill_until_done
from tests.support.clips import make_video
from tests.support.shard_files import files_of, records_of, rejects_of

CHUNKS = ("--chunk", "2", "--shard-bytes", "60KB")


@pytest.fixture(scope="module")
def lectures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lectures")
    make_video(folder / "talk" / "long.mp4", seconds=7.4)
    make_video(folder / "talk" / "longer.mkv", seconds=6.8, extra=("-vf", "hflip"))
    make_video(folder / "short.mp4", seconds=1.6, extra=("-vf", "vflip"))
    return folder


@pytest.mark.slow
def test_pieces_are_named_like_rows_of_a_clip_list_and_have_its_bytes(lectures, tmp_path, pal_shard) -> None:
    (lectures / "talk" / "broken.mp4").write_text("no video")
    options = ("--val-fraction", "0.3", "--seed", "1")
    done = pal_shard("build", lectures, tmp_path / "cut", *CHUNKS, *options, "--workers", 1, "--json")
    (lectures / "talk" / "broken.mp4").unlink()
    assert done.returncode == 3, done.stderr
    expected = {
        **{f"talk/long.mp4#t={start},{end}": 2 for start, end in ((0, 2), (2, 4), (4, 6))},
        "talk/long.mp4#t=6,7.4": 1.4,
        **{f"talk/longer.mkv#t={start},{end}": 2 for start, end in ((0, 2), (2, 4))},
        "talk/longer.mkv#t=4,6.8": 2.8,
        "short.mp4": 1.6,
    }
    records = records_of(tmp_path / "cut")
    assert {source: record["duration"] for source, record in records.items()} == expected
    assert [reject["source"] for reject in rejects_of(tmp_path / "cut")] == ["talk/broken.mp4"]
    splits = {source.partition("#")[0]: set() for source in records}
    for path in (tmp_path / "cut").glob("*.index.json"):
        keys = {sample["key"] for sample in json.loads(path.read_bytes())["samples"]}
        for source, record in records.items():
            if record["key"] in keys:
                splits[source.partition("#")[0]].add(path.name.split("-")[0])
    assert all(len(names) == 1 for names in splits.values())
    rows = [name.replace("#t=", ",") if "#" in name else f"{name},," for name in expected]
    (tmp_path / "clips.csv").write_text("path,start,end\n" + "\n".join(rows) + "\n")
    listed = pal_shard(
        "build", tmp_path / "clips.csv", tmp_path / "listed", "--video-root", lectures, *CHUNKS[2:], *options
    )
    assert listed.returncode == 0, listed.stderr
    assert {record["sha256"] for record in records.values()} == {
        record["sha256"] for record in records_of(tmp_path / "listed").values()
    }


@pytest.mark.slow
def test_workers_tasks_and_kills_give_the_same_bytes(lectures, tmp_path, pal_shard) -> None:
    options = (*CHUNKS, "--dedupe", "near", "--min-motion", "0.05")
    assert pal_shard("build", lectures, tmp_path / "whole", *options, "--workers", 1).returncode == 0
    whole = files_of(tmp_path / "whole")
    for index in range(2):
        task = ("--num-tasks", 2, "--task-index", index)
        assert pal_shard("build", lectures, tmp_path / "tasks", *options, *task).returncode == 0
    assert pal_shard("finish", tmp_path / "tasks").returncode == 0
    assert files_of(tmp_path / "tasks") == whole
    scratch = tmp_path / f"scratch-{uuid.uuid4().hex}"
    scratch.mkdir()
    killed = ["build", str(lectures), str(tmp_path / "killed"), *options, "--quiet"]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    assert kill_until_done(killed, environment, scratch.name, kills=4, seed=3, latest=2.5) > 2
    assert files_of(tmp_path / "killed") == whole


@pytest.mark.slow
def test_a_finished_set_is_known_again_without_a_look_into_its_videos(lectures, tmp_path, pal_shard) -> None:
    source = tmp_path / "videos"
    source.mkdir()
    video = make_video(source / "long.mp4", seconds=4.8)
    assert pal_shard("build", source, tmp_path / "out", *CHUNKS).returncode == 0
    video.write_bytes(b"x" * video.stat().st_size)
    again = pal_shard("build", source, tmp_path / "out", *CHUNKS, "--json")
    assert json.loads(again.stdout)["clips"] == 2
    other = pal_shard("build", source, tmp_path / "out", "--chunk", 1, *CHUNKS[2:])
    assert other.returncode == 2
    assert "cutting.chunk" in other.stderr
    assert not (tmp_path / "out" / "_unfinished").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--chunk", "2", "--copy"), "which --copy can't"),
        (("--chunk", "500"), "--max-seconds 600"),
        (("--shot-threshold", "2"), "no effect without --shots"),
        (("--min-seconds", "700"), "more than --max-seconds 600"),
        (("--min-motion", "0"), "--min-motion 0"),
        (("--max-black", "1"), "--max-black 1"),
        (("--min-side", "0"), "--min-side 0"),
    ],
)
def test_options_that_contradict_are_one_line(corpus, tmp_path, pal_shard, arguments, said) -> None:
    done = pal_shard("build", corpus, tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_nothing_to_cut_is_refused_and_a_dry_run_writes_nothing(corpus, tmp_path, pal_shard) -> None:
    name = next(corpus.rglob("*.mp4")).relative_to(corpus)
    (tmp_path / "clips.csv").write_text(f"path,start,end\n{name},0,0.5\n")
    done = pal_shard("build", tmp_path / "clips.csv", tmp_path / "out", "--video-root", corpus, "--chunk", 2)
    assert done.returncode == 2
    assert "--chunk has no effect" in done.stderr
    dry = pal_shard("build", corpus, tmp_path / "out", "--chunk", 0.5, "--dry-run", "--json")
    assert json.loads(dry.stdout)["clips"] == 24
    assert not (tmp_path / "out").exists()
