"""A whole corpus: to the byte the same, resumed where it stopped, and labelled in four published forms."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from corpora.mocap import cli
from corpora.mocap.build import CorpusError, _made, build
from corpora.mocap.corpus_plan import SIZES, plan
from corpora.mocap.encode import EncodeError, Film, encode
from corpora.mocap.motion.actions import ACTIONS
from corpora.mocap.page import filmstrip, write_page
from corpora.mocap.rng import generator
from corpora.mocap.video import compose, draw
from pal_ds.transfer.datasets.detection import read_database
from pal_ds.transfer.datasets.grounding import read_charades_durations, read_charades_sta


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_second_build_with_two_workers_makes_the_same_bytes(corpus, little, tmp_path):
    build(tmp_path / "again", little, 7, 2)
    assert digests(tmp_path / "again") == digests(corpus)


def test_another_seed_makes_other_videos(corpus, little):
    ours = plan(SIZES[little], 7)[0]
    assert not (corpus / plan(SIZES[little], 8)[0].path).exists()
    assert (corpus / ours.path).exists()


def test_one_kind_alone_is_made_of_the_same_videos(corpus, little, tmp_path):
    root = tmp_path / "long"
    build(root, little, 7, 1, only="untrimmed")
    made = sorted(path.relative_to(root) for path in root.rglob("*.mp4"))
    assert [str(path) for path in made] == sorted(
        v.path for v in plan(SIZES[little], 7) if v.kind == "untrimmed"
    )
    assert all((root / path).read_bytes() == (corpus / path).read_bytes() for path in made)
    annotations = (root / "untrimmed/activitynet.json").read_bytes()
    assert annotations == (corpus / "untrimmed/activitynet.json").read_bytes()
    with pytest.raises(CorpusError, match="only 'untrimmed'"):
        build(root, little, 7, 1)


def test_an_interrupted_build_goes_on(corpus, little, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(corpus, root)
    made = sorted(root.rglob("*.mp4"))
    (root / "corpus.json").rename(root / "recipe.json")
    for path in made[::7]:
        path.unlink()
        path.with_name(path.name + ".part").write_bytes(b"cut off")
    before = {path: path.stat().st_mtime_ns for path in made if path.exists()}
    build(root, little, 7, 1)
    assert digests(root) == digests(corpus)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was done isn't done again"


def test_a_folder_of_something_else_is_refused(corpus, little, tmp_path):
    with pytest.raises(CorpusError, match="seed 7"):
        build(corpus, little, 8, 1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CorpusError, match="not empty"):
        build(tmp_path, little, 7, 1)


def test_first_frame_says_nothing_of_the_action(little):
    clip = plan(SIZES[little], 7)[0]
    film = Film.draw(generator(7, clip.id, "film"))
    firsts, lasts = set(), set()
    for action in ACTIONS:
        other = dataclasses.replace(clip, labels=(action.label,))
        frames = np.concatenate(list(draw(other, 7, compose(other, 7), 8, film)))
        firsts.add(frames[0].tobytes())
        lasts.add(frames[7].tobytes())
    assert len(firsts) == 1, "place, camera, clothes or first pose depend on the action"
    assert len(lasts) > 12, "four seconds on, most have gone apart"


def test_trimmed_list_is_kinetics_and_its_videos_are_there(corpus):
    clips = rows(corpus / "trimmed/all.csv")
    assert list(clips[0]) == ["label", "youtube_id", "time_start", "time_end", "split"]
    named = {
        f"{clip['label']}/{clip['youtube_id']}_{int(clip['time_start']):06d}_{int(clip['time_end']):06d}.mp4"
        for clip in clips
    }
    there = {
        str(path.relative_to(corpus / "trimmed/videos"))
        for path in (corpus / "trimmed/videos").rglob("*.mp4")
    }
    assert named == there
    assert all(int(clip["time_end"]) - int(clip["time_start"]) == 10 for clip in clips)
    both = [*rows(corpus / "trimmed/train.csv"), *rows(corpus / "trimmed/val.csv")]
    assert sorted(both, key=str) == sorted(clips, key=str)


def test_tac_split_is_balanced_and_its_paths_exist(corpus):
    names = (corpus / "classes.txt").read_text().splitlines()
    for split in ("train", "val"):
        part = rows(corpus / f"tac/{split}.csv")
        assert sorted(row["label"] for row in part) == sorted(names)
        assert all(
            (corpus / row["path"]).is_file() and names[int(row["label_id"])] == row["label"] for row in part
        )


def test_videos_have_the_frames_their_labels_say(corpus):
    decoders = pytest.importorskip("torchcodec.decoders")
    database = json.loads((corpus / "untrimmed/activitynet.json").read_text())["database"]
    for name, video in database.items():
        read = decoders.VideoDecoder(corpus / f"untrimmed/videos/v_{name}.mp4", seek_mode="exact")
        assert len(read) == round(video["duration"] * 2)
        assert f"{read.metadata.width}x{read.metadata.height}" == video["resolution"]
        assert read[len(read) - 1].float().std() > 1.0
    clip = next((corpus / "trimmed/videos").rglob("*.mp4"))
    assert len(decoders.VideoDecoder(clip, seek_mode="exact")) == 20


def test_annotations_load_in_the_readers_of_published_ones(corpus):
    videos = read_database(str(corpus / "untrimmed/activitynet.json"))
    thumos = read_database(str(corpus / "untrimmed/thumos14.json"))
    assert len(videos) == len(thumos) == 4
    raw = json.loads((corpus / "untrimmed/activitynet.json").read_text())
    assert {node["nodeName"] for node in raw["taxonomy"]} >= {action.label for action in ACTIONS}
    lengths = read_charades_durations(str(corpus / "queries/Charades_v1_train.csv"))
    queries = read_charades_sta(str(corpus / "queries/charades_sta_train.txt"))
    trained = {name for name, video in raw["database"].items() if video["subset"] == "training"}
    assert set(lengths) == trained
    assert {query.video for query in queries} == trained


def test_all_forms_tell_the_same_story(corpus):
    anet = json.loads((corpus / "untrimmed/activitynet.json").read_text())["database"]
    thumos = json.loads((corpus / "untrimmed/thumos14.json").read_text())["database"]
    subsets = {"training": "Validation", "validation": "Test"}
    lines = []
    for folder in ("val", "test"):
        for path in sorted((corpus / f"untrimmed/thumos/annotations_{folder}").glob("*.txt")):
            lines += [line.split()[0].removeprefix("v_") for line in path.read_text().splitlines()]
    queried: set[str] = set()
    for name in ("train", "test"):
        text = (corpus / f"queries/charades_sta_{name}.txt").read_text().splitlines()
        assert all(line.endswith(".") and line.count("##") == 1 for line in text)
        queried |= {" ".join(line.split("##")[0].split()[:3]) for line in text}
    for name, video in anet.items():
        other = thumos[name]
        assert subsets[video["subset"]] == other["subset"]
        assert [one["segment"] for one in video["annotations"]] == [
            one["segment"] for one in other["annotations"]
        ]
        assert lines.count(name) == len(video["annotations"]) >= 1
        for one in video["annotations"]:
            start, end = one["segment"]
            assert 0 <= start < end <= video["duration"]
            assert any(
                np.allclose([start, end], [float(part) for part in query.split()[1:]], atol=0.051)
                for query in queried
                if query.startswith(name)
            )


def test_page_shows_every_class(corpus, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(corpus, root)
    page = write_page(root).read_text()
    for action in ACTIONS:
        picture = root / f"page/{action.label.replace(' ', '_')}.jpg"
        assert picture.stat().st_size > 2000
        assert f"page/{picture.name}" in page
    assert page.count('class="bar"') == 4
    for video in (root / "trimmed/videos/jump").glob("*.mp4"):
        height, width, _ = filmstrip(video, seconds=10.0).shape
        assert height == 96
        assert width % 12 == 0
        assert width // 12 >= 96


def test_a_failed_encode_leaves_no_file(tmp_path):
    film = Film.draw(generator(0, "film"))
    path = tmp_path / "x.mp4"
    with pytest.raises(EncodeError, match=r"x\.mp4"):
        encode([np.zeros((1, 3, 3, 3), np.uint8)], path, width=3, height=3, fps=4, film=film)

    def breaking():
        yield np.zeros((1, 3, 32, 32), np.uint8)
        raise RuntimeError("renderer")

    with pytest.raises(RuntimeError, match="renderer"):
        encode(breaking(), path, width=32, height=32, fps=4, film=film)
    assert list(tmp_path.iterdir()) == []


def test_command_line_prints_one_object_or_one_reason(corpus, little, monkeypatch, capsys):
    monkeypatch.setattr(cli, "SIZES", SIZES)
    arguments = ["--size", little, "--out", corpus.as_uri(), "--workers", "1", "--no-page", "--json"]
    assert cli.main([*arguments, "--seed", "7"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"]["classes"] == len(ACTIONS)
    assert said["format"] == "pal-mocap/2"
    assert cli.main([*arguments, "--seed", "9"]) == 2
    assert "seed 7" in capsys.readouterr().err


def test_videos_dont_know_the_order_or_number_of_workers(corpus, little, tmp_path):
    chosen = plan(SIZES[little], 7)[5::9]
    for name, _ in _made(chosen[::-1], 7, tmp_path, 2):
        assert name in {video.id for video in chosen}
    assert all((tmp_path / video.path).read_bytes() == (corpus / video.path).read_bytes() for video in chosen)


@pytest.mark.slow
def test_upload_puts_the_whole_corpus_into_a_bucket(corpus, little, s3_env, monkeypatch, tmp_path):
    import fsspec

    url = f"s3://{s3_env.bucket('mocap')}/corpus"
    local = tmp_path / "local"
    shutil.copytree(corpus, local)
    monkeypatch.setattr(cli, "_local_folder", lambda out: local)
    assert cli.main(["--size", little, "--seed", "7", "--out", url, "--workers", "1", "--no-page"]) == 0
    remote = fsspec.filesystem("s3").find(url)
    assert len(remote) == len(digests(corpus))
    with fsspec.open(f"{url}/corpus.json") as stream:
        assert stream.read() == (corpus / "corpus.json").read_bytes()


@pytest.mark.slow
def test_no_worker_outlives_a_killed_build(tmp_path):
    command = [
        sys.executable,
        "-m",
        "corpora.mocap",
        "--size",
        "tiny",
        "--out",
        str(tmp_path / "x"),
        "--workers",
        "2",
    ]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("*.mp4")) and time.monotonic() < deadline:
            time.sleep(0.2)
        children = _descendants(parent.pid)
        assert len(children) >= 2
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 30
    while any(_runs(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [child for child in children if _runs(child)]


def _descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *_descendants(int(child))]
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
