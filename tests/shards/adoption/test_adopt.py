"""A set that points at tars of other tools: every input counted, no byte of theirs changed, all commands work."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pal_ds import storage
from pal_ds.data.errors import TooManyBadClipsError
from pal_ds.formats import shardset
from pal_ds.formats.tar_samples import other_members, sample_in
from pal_ds.storage import RetryPolicy
from pal_ds.transfer.extraction.video_source import list_videos, open_video
from shards.cli import main as pal_shard
from shards.inspection.verify import verify
from tests.support.clips import make_video
from tests.support.foreign_tars import shard_writer_set, sums, tar_of, video2dataset_set
from tests.support.loading import loader_of
from tests.support.shard_files import files_of, rejects_of

FAST = RetryPolicy(budget_seconds=0.3, first_delay=0.01, max_delay=0.05)


@pytest.fixture(scope="module")
def videos(corpus: Path) -> list[Path]:
    return sorted(corpus.rglob("*.mp4"))


@pytest.fixture(scope="module")
def tars(videos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video2dataset's layout, with a broken clip, a sample without a video, and one clip of too few frames."""
    folder = video2dataset_set(tmp_path_factory.mktemp("v2d") / "tars", videos)
    short = make_video(folder.parent / "short.mp4", seconds=0.1)
    members = [
        ("000090000.mp4", videos[0].read_bytes()[:3000]),
        ("000090000.json", b"{}"),
        ("000090001.json", b"{}"),
        ("000090001.txt", b"the download failed"),
        ("000090002.mp4", short.read_bytes()),
    ]
    (folder / "00009.tar").write_bytes(tar_of(members))
    return folder


@pytest.fixture(scope="module")
def adopted(tars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("adopted") / "set"
    before = sums(tars)
    assert pal_shard(["adopt", str(tars), str(dest), "--quiet"]) == 3
    assert sums(tars) == before
    return dest


def test_every_input_is_a_clip_or_a_reject(adopted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pal_shard(["stats", str(adopted), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["clips"], found["rejected"]) == (12, 3)
    assert {(reject["source"], reject["stage"]) for reject in rejects_of(adopted)} == {
        ("00009.tar/000090000.mp4", "probe"),
        ("00009.tar/000090001", "missing"),
        ("00009.tar/000090002.mp4", "verify"),
    }


def test_a_set_holds_indexes_and_points_at_the_tars(adopted: Path, tars: Path) -> None:
    assert [path.name for path in sorted(adopted.iterdir())] == [
        "manifest.json",
        "rejects.jsonl",
        *(f"train-{number:06d}.index.json" for number in range(3)),
    ]
    manifest = shardset.load_manifest(str(adopted))
    assert [entry.url for entry in manifest.shards()] == [str(tars / f"{n:05d}.tar") for n in range(3)]
    assert [entry.sha256 for entry in manifest.shards()] == [
        sums(tars)[f"{number:05d}.tar"] for number in range(3)
    ]


def test_the_documented_fields_lead_to_the_videos(adopted: Path, videos: list[Path]) -> None:
    """With the standard library alone, by docs/formats.md."""
    found = []
    for path in sorted(adopted.glob("*.index.json")):
        index = json.loads(path.read_bytes())
        tar = Path(index["url"]).read_bytes()
        assert len(tar) == index["tar_bytes"]
        for row in index["samples"]:
            video = tar[row["video_offset"] : row["video_offset"] + row["bytes"]]
            assert hashlib.sha256(video).hexdigest() == row["sha256"]
            assert row["offset"] < row["video_offset"] < row["offset"] + row["size"]
            found.append(video)
    assert found == [path.read_bytes() for path in videos]


def test_all_commands_work_on_it(adopted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = verify(str(adopted), decode=True, workers=2, quiet=True)
    assert (found.problems, found.clips, found.decoded) == ([], 12, 12)
    assert pal_shard(["ls", str(adopted), "--shard", "train-000000", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["samples"][0]
    assert (row["source"], row["width"], row["height"]) == ("00000.tar/000000000.mp4", 192, 144)
    assert pal_shard(["preview", str(adopted), "--out", str(tmp_path / "sheet.png"), "--clips", "3"]) == 0
    assert pal_shard(["reshard", str(adopted), str(tmp_path / "own"), "--quiet"]) == 0
    assert verify(str(tmp_path / "own"), quiet=True).clips == 12


def test_captions_stay_readable_through_the_sample(adopted: Path, videos: list[Path]) -> None:
    index = shardset.load_index(str(adopted), "train-000001.tar")
    for entry, path in zip(index.samples, videos[5:10], strict=True):
        data = storage.read_range(index.tar(str(adopted)), entry.offset, entry.offset + entry.size)
        assert sample_in(data, entry).video == path.read_bytes()
        others = {name.partition(".")[2]: content for name, content in other_members(data, entry).items()}
        assert others["txt"].decode() == f"a clip called {path.stem}"
        assert json.loads(others["json"])["url"].endswith(path.name)


def test_extraction_reads_the_same_videos(adopted: Path, videos: list[Path]) -> None:
    found = {open_video(video) for video in list_videos(str(adopted), split="train")}
    assert found == {path.read_bytes() for path in videos}


def test_labels_come_from_a_member(
    videos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tars = shard_writer_set(tmp_path / "tars", videos[:6], per_tar=3)
    assert pal_shard(["adopt", str(tars), str(tmp_path / "a"), "--label-member", "cls", "--quiet"]) == 0
    assert shardset.load_manifest(str(tmp_path / "a")).labels == ("0", "1", "2")
    arguments = ["build", str(tars), str(tmp_path / "b"), "--with-labels", "--label-member", "cls"]
    (tars / "notes.txt").touch()
    assert pal_shard(arguments) == 0
    assert shardset.load_manifest(str(tmp_path / "b")).labels == ("0", "1", "2")
    said = capsys.readouterr().err
    assert "passed over 1 files" in said, "the note; the tars are inputs"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s3://key:secret@bucket/x"], "has credentials or a query"),
        (["https://host/x.tar?X-Amz-Signature=1"], "has credentials or a query"),
        (["simplecache::s3://key:secret@bucket/x"], "is a chain of places"),
        (["{tars}/a{{.tar"], "its braces can't be expanded"),
        (["{videos}"], "no .tar in it"),
        (["{tars}", "{copy}"], "two tars are called '00000.tar'"),
        (["{adopted}"], "is a shard set already"),
        (["{tars}", "--split", "a", "--split-by-folder"], "exclude each other"),
        (["{tars}", "--split-by-folder"], "lies in no folder below SOURCE"),
        (["{tars}", "--video-member", "*"], "--video-member"),
    ],
)
def test_what_can_not_be_adopted_is_refused_in_one_line(
    words: list[str],
    message: str,
    adopted: Path,
    tars: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(tars, tmp_path / "copy")
    places = {"videos": corpus, "tars": tars, "copy": tmp_path / "copy", "adopted": adopted}
    given = [word.format(**places) for word in words]
    sources = [word for word in given if "/" in word]
    options = [word for word in given if "/" not in word]
    assert pal_shard(["adopt", *sources, str(tmp_path / "set"), *options, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "secret" not in said and "Signature=1" not in said
    assert not (tmp_path / "set").exists()


def test_whole_tars_are_held_out_and_folders_name_splits(tars: Path, tmp_path: Path) -> None:
    assert pal_shard(["adopt", str(tars), str(tmp_path / "a"), "--val-fraction", "0.5", "--quiet"]) == 3
    manifest = shardset.load_manifest(str(tmp_path / "a"))
    assert sum(len(split.shards) for split in manifest.splits.values()) == 3
    assert 1 <= len(manifest.splits["val"].shards) <= 2
    for number, name in enumerate(("train", "test")):
        (tmp_path / "tars" / name).mkdir(parents=True)
        shutil.copy(tars / f"0000{number}.tar", tmp_path / "tars" / name)
    assert (
        pal_shard(["adopt", str(tmp_path / "tars"), str(tmp_path / "b"), "--split-by-folder", "--quiet"]) == 0
    )
    assert sorted(shardset.load_manifest(str(tmp_path / "b")).splits) == ["test", "train"]


@pytest.mark.parametrize("how", ["longer", "other bytes"])
def test_a_tar_that_changed_is_told_by_verify_and_by_training(how: str, videos, tmp_path: Path) -> None:
    tars = shard_writer_set(tmp_path / "tars", videos, per_tar=4)
    assert pal_shard(["adopt", str(tars), str(tmp_path / "set"), "--quiet"]) == 0
    tar = tars / "clips-0001.tar"
    data = tar.read_bytes()
    tar.write_bytes(data + bytes(512) if how == "longer" else data[:3000] + bytes(9000) + data[12000:])
    problems = verify(str(tmp_path / "set"), quiet=True).problems
    assert any("clips-0001.tar has changed since it was adopted" in problem for problem in problems)
    loader = loader_of(str(tmp_path / "set"), retry=FAST, lanes=1, max_replaced_share=0.001)
    error = shardset.ShardSetError if how == "longer" else TooManyBadClipsError
    with pytest.raises(error, match=r"train-000001\.tar"):
        for _ in range(300):
            next(loader)
    loader.close()


def test_the_loader_gives_the_clips_of_the_tars(adopted: Path) -> None:
    """The same batches on one rank and two: keys are those of the index, and no clip is replaced."""
    keys = {
        sample.key
        for entry in shardset.load_manifest(str(adopted)).shards()
        for sample in shardset.load_index(str(adopted), entry.name).samples
    }
    settings = {"synthesis": _small(), "global_batch": 6, "group_size": 3, "lanes": 1}
    whole = [next(loader) for loader in [loader_of(str(adopted), **settings)] for _ in range(2)]
    assert not any(batch.replaced for batch in whole)
    seen = [key for batch in whole for group in batch.groups for key in group.keys]
    assert len(set(seen)) == 12 and set(seen) == keys
    halves = [loader_of(str(adopted), rank=rank, world_size=2, **settings) for rank in range(2)]
    parts = [group.digest for half in halves for group in next(half).groups]
    assert sorted(parts) == sorted(group.digest for group in whole[0].groups)


def test_more_tars_are_adopted_into_the_same_set(videos: list[Path], tmp_path: Path, capsys) -> None:
    tars = shard_writer_set(tmp_path / "tars", videos[:6], per_tar=3)
    dest, later = tmp_path / "set", tmp_path / "later"
    assert pal_shard(["adopt", str(tars), str(dest), "--quiet"]) == 0
    index = (dest / "train-000000.index.json").read_bytes()
    (tars / "more.tar").write_bytes(tar_of([("a.mp4", videos[7].read_bytes()), ("b.mp4", b"no video")]))
    assert pal_shard(["adopt", str(tars), str(dest), "--append", "--quiet"]) == 3
    assert "took up 1 clips of 2 inputs" in capsys.readouterr().out
    manifest = shardset.load_manifest(str(dest))
    assert (manifest.generation, manifest.splits["train"].clips, manifest.rejected) == (2, 7, 1)
    assert (dest / "train-000000.index.json").read_bytes() == index
    assert verify(str(dest), quiet=True).problems == []
    assert pal_shard(["adopt", str(tars), str(dest), "--append", "--quiet"]) == 0
    assert shardset.load_manifest(str(dest)).generation == 2
    shutil.copytree(tars, later)
    assert pal_shard(["adopt", str(later), str(dest), "--append", "--quiet"]) == 2
    assert "the set has another tar called" in capsys.readouterr().err


def test_tars_are_never_taken_for_the_sets_own(videos: list[Path], tmp_path: Path, capsys) -> None:
    """Their names may be those of our shards; ``--overwrite`` would remove them."""
    (tmp_path / "train-000000.tar").write_bytes(tar_of([("a.mp4", videos[0].read_bytes())]))
    assert pal_shard(["adopt", str(tmp_path), str(tmp_path), "--overwrite", "--quiet"]) == 2
    assert "use another folder" in capsys.readouterr().err
    assert (tmp_path / "train-000000.tar").exists()


def _small():
    from pal_ds.config.synthesis import SynthesisConfig

    return SynthesisConfig(size=24, clips=4, clip_frames=4, region_max=3)


@pytest.mark.slow
def test_tasks_and_kills_end_in_the_same_bytes(tars: Path, adopted: Path, tmp_path: Path) -> None:
    dest = tmp_path / "set"
    command = [sys.executable, "-m", "shards.cli", "adopt", str(tars), str(dest), "--quiet", "--workers", "1"]
    for seconds in (0.6, 1.0, 1.6):
        process = subprocess.Popen([*command, "--num-tasks", "2", "--task-index", "0"], env=dict(os.environ))
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for task in ("0", "1"):
        subprocess.run([*command, "--num-tasks", "2", "--task-index", task], check=False)
    assert pal_shard(["finish", str(dest), "--quiet"]) == 3
    assert files_of(dest) == files_of(adopted)
    assert pal_shard(["adopt", str(tars), str(dest), "--quiet"]) == 3
    assert files_of(dest) == files_of(adopted)
