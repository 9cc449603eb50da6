"""pal-shard build end to end on local folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.clips import make_video
from tests.support.shard_files import files_of, records_of, rejects_of

SMALL = ("--shard-bytes", "60KB")


def test_a_finished_set_holds_only_its_files_and_accounts_for_every_input(
    corpus, tmp_path, pal_shard
) -> None:
    source = tmp_path / "videos"
    shutil.copytree(corpus, source)
    (source / "notes.txt").write_text("no video")
    (source / "broken.mp4").write_text("no video")
    done = pal_shard("build", source, tmp_path / "out", *SMALL, "--json")
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert (result["inputs"], result["clips"], result["rejected"]) == (13, 12, 1)
    assert rejects_of(tmp_path / "out")[0]["source"] == "broken.mp4"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    shards = [shard["name"] for shard in manifest["splits"]["train"]["shards"]]
    assert len(shards) > 2
    expected = {"manifest.json", "rejects.jsonl", *shards, *(name[:-4] + ".index.json" for name in shards)}
    assert set(files_of(tmp_path / "out")) == expected
    assert {record["frames"] for record in records_of(tmp_path / "out").values()} == {25}
    assert list((tmp_path / "scratch").iterdir()) == []
    again = pal_shard("build", source, tmp_path / "out", *SMALL)
    assert again.returncode == 3


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers_place_or_job_size(corpus, tmp_path, pal_shard) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(corpus, copy)
    assert pal_shard("build", corpus, tmp_path / "one", *SMALL, "--workers", 1).returncode == 0
    assert pal_shard("build", copy, f"file://{tmp_path}/three", *SMALL, "--workers", 3).returncode == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")


@pytest.mark.slow
def test_tasks_and_finish_give_the_bytes_of_one_run(corpus, tmp_path, pal_shard) -> None:
    assert pal_shard("build", corpus, tmp_path / "whole", *SMALL).returncode == 0
    tasks = [("--num-tasks", 3, "--task-index", index) for index in range(3)]
    for task in tasks[:2]:
        assert pal_shard("build", corpus, tmp_path / "parts", *SMALL, *task).returncode == 0
    early = pal_shard("finish", tmp_path / "parts")
    assert early.returncode == 1
    assert "not finished" in early.stderr
    assert pal_shard("build", corpus, tmp_path / "parts", *SMALL, *tasks[2]).returncode == 0
    assert pal_shard("finish", tmp_path / "parts").returncode == 0
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    assert pal_shard("finish", tmp_path / "parts").returncode == 0


@pytest.mark.slow
def test_an_empty_shard_is_left_out_and_its_number_stays_free(tmp_path, pal_shard) -> None:
    source = tmp_path / "videos"
    for number in range(5):
        make_video(source / f"v{number}.mp4", seconds=1, hue=40 * number)
    assert pal_shard("build", source, tmp_path / "plain", "--shard-bytes", "1KB").returncode == 0
    names = sorted(name for name in files_of(tmp_path / "plain") if name.endswith(".tar"))
    assert len(names) == 5
    victim = next(iter(records_by_shard(tmp_path / "plain")[names[2]]))
    good = (source / victim).read_bytes()
    (source / victim).write_bytes(b"x" * len(good))
    assert pal_shard("build", source, tmp_path / "holed", "--shard-bytes", "1KB").returncode == 3
    assert sorted(name for name in files_of(tmp_path / "holed") if name.endswith(".tar")) == [
        *names[:2],
        *names[3:],
    ]
    for name in (*names[:2], *names[3:]):
        assert (tmp_path / "holed" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert pal_shard("verify", tmp_path / "holed").returncode == 0


def records_by_shard(folder: Path) -> dict[str, list[str]]:
    import tarfile

    found: dict[str, list[str]] = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    found.setdefault(path.name, []).append(
                        json.loads(tar.extractfile(member).read())["source"]
                    )
    return found


@pytest.mark.slow
def test_val_is_held_out_by_whole_source_videos(tmp_path, pal_shard) -> None:
    whole = make_video(tmp_path / "whole.mp4", seconds=1)
    source = tmp_path / "videos"
    source.mkdir()
    for video in range(6):
        for piece in range(3):
            shutil.copy(whole, source / f"id{video}_{piece:06d}_{piece + 1:06d}.mp4")
    done = pal_shard("build", source, tmp_path / "out", "--val-fraction", 0.34, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["splits"]["val"]["clips"] == 6
    sides: dict[str, set[str]] = {}
    for shard, sources in records_by_shard(tmp_path / "out").items():
        for name in sources:
            sides.setdefault(name.split("_")[0], set()).add(shard.split("-")[0])
    assert all(len(splits) == 1 for splits in sides.values())


@pytest.mark.slow
def test_labels_come_from_class_folders_and_only_when_asked(corpus, tmp_path, pal_shard) -> None:
    assert pal_shard("build", corpus, tmp_path / "with", "--with-labels", "--limit", 6).returncode == 0
    assert pal_shard("build", corpus, tmp_path / "without", "--limit", 6).returncode == 0
    manifest = json.loads((tmp_path / "with" / "manifest.json").read_bytes())
    assert set(manifest["labels"]) <= {"class 0", "class 1"}
    for source, record in records_of(tmp_path / "with").items():
        assert record["label"] == source.split("/")[0]
    assert "labels" not in json.loads((tmp_path / "without" / "manifest.json").read_bytes())
    assert all("label" not in record for record in records_of(tmp_path / "without").values())


@pytest.mark.slow
def test_copy_packs_the_files_unchanged(corpus, tmp_path, pal_shard) -> None:
    import tarfile

    make_video(tmp_path / "more" / "x.webm", seconds=1, extra=("-c:v", "libvpx", "-deadline", "realtime"))
    make_video(tmp_path / "more" / "y.avi", seconds=1, extra=("-c:v", "mpeg4", "-bf", "2"))
    done = pal_shard("build", tmp_path / "more", tmp_path / "out", "--copy")
    assert done.returncode == 3
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        names = tar.getnames()
        assert [name.rpartition(".")[2] for name in names] == ["webm", "json"]
        assert tar.extractfile(names[0]).read() == (tmp_path / "more" / "x.webm").read_bytes()
    assert [reject["source"] for reject in rejects_of(tmp_path / "out")] == ["y.avi"]


@pytest.mark.slow
def test_plain_webdataset_and_tar_read_the_shards(corpus, tmp_path, pal_shard) -> None:
    import webdataset

    assert pal_shard("build", corpus, tmp_path / "out", *SMALL).returncode == 0
    tars = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(samples) == 12
    for sample in samples:
        record = json.loads(sample["json"])
        assert record["key"] == sample["__key__"]
        assert len(sample["mp4"]) == record["bytes"]
    listed = subprocess.run(["tar", "tf", tars[0]], capture_output=True, text=True, check=True).stdout.split()
    assert [name.rpartition(".")[2] for name in listed] == ["mp4", "json"] * (len(listed) // 2)


@pytest.mark.slow
def test_torchcodec_yields_exactly_the_frames_of_the_record(corpus, tmp_path, pal_shard) -> None:
    import tarfile

    decoders = pytest.importorskip("torchcodec.decoders")
    assert pal_shard("build", corpus, tmp_path / "out", "--limit", 3).returncode == 0
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        members = tar.getmembers()
        for video, record in zip(members[::2], members[1::2], strict=True):
            decoder = decoders.VideoDecoder(tar.extractfile(video).read())
            expected = json.loads(tar.extractfile(record).read())
            frames = decoder.get_frames_at(list(range(expected["frames"])))
            assert len(decoder) == len(frames) == expected["frames"]
            assert frames.data.shape[-2:] == (expected["height"], expected["width"])
            assert decoder.metadata.average_fps == expected["fps"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--gop", 8), "gop"),
        (("--seed", 1), "seed"),
        (("--with-labels",), "with_labels"),
    ],
)
def test_another_recipe_is_refused_at_a_finished_and_at_a_begun_set(
    corpus, tmp_path, pal_shard, change, said
) -> None:
    assert pal_shard("build", corpus, tmp_path / "done", "--limit", 2).returncode == 0
    task = ("--num-tasks", 2, "--task-index", 1)
    assert pal_shard("build", corpus, tmp_path / "begun", "--limit", 2, *task).returncode == 0
    for dest in ("done", "begun"):
        refused = pal_shard("build", corpus, tmp_path / dest, "--limit", 2, *change)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_another_ffmpeg_build_is_refused(corpus, tmp_path, pal_shard) -> None:
    task = ("--num-tasks", 2, "--task-index", 0)
    assert pal_shard("build", corpus, tmp_path / "out", "--limit", 2, *task).returncode == 0
    plan = tmp_path / "out" / "_unfinished" / "plan.json"
    document = json.loads(plan.read_bytes())
    document["recipe"]["encoder"]["x264"] = "999"
    plan.write_text(json.dumps(document))
    refused = pal_shard("build", corpus, tmp_path / "out", "--limit", 2)
    assert refused.returncode == 2
    assert "encoder.x264" in refused.stderr


@pytest.mark.slow
def test_changed_inputs_and_foreign_folders_are_refused_and_overwrite_replaces(
    corpus, tmp_path, pal_shard
) -> None:
    source = tmp_path / "videos"
    shutil.copytree(corpus, source)
    assert pal_shard("build", source, tmp_path / "out", *SMALL).returncode == 0
    next(source.rglob("*.mp4")).unlink()
    refused = pal_shard("build", source, tmp_path / "out", *SMALL)
    assert refused.returncode == 2
    assert "12 then, 11 now" in refused.stderr
    assert pal_shard("build", source, tmp_path / "out", *SMALL, "--overwrite").returncode == 0
    assert len(records_of(tmp_path / "out")) == 11
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    for extra in ((), ("--overwrite",)):
        assert pal_shard("build", source, tmp_path / "other", *extra).returncode == 2
    assert (tmp_path / "other" / "thesis.tex").read_text() == "precious"


def test_dry_run_writes_nothing(corpus, tmp_path, pal_shard) -> None:
    done = pal_shard("build", corpus, tmp_path / "out", *SMALL, "--dry-run", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["clips"] == 12
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("only-one-place",),
        ("nowhere", "out"),
        ("nowhere.csv", "out"),
        ("{corpus}", "out", "--shard-bytes", "5"),
        ("{corpus}", "out", "--val-fraction", "1.5"),
        ("{corpus}", "out", "--split", "a/b"),
        ("{corpus}", "out", "--split", "a", "--val-fraction", "0.1"),
        ("{corpus}", "out", "--copy", "--gop", "4"),
        ("{corpus}", "out", "--short-side", "127"),
        ("{corpus}", "out", "--num-tasks", "2"),
        ("{corpus}", "out", "--num-tasks", "2", "--task-index", "2"),
        ("{corpus}", "{corpus}"),
        ("{corpus}", "out", "--split-column"),
        ("{corpus}", "nosuchscheme://out"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(corpus, tmp_path, pal_shard, arguments) -> None:
    done = pal_shard("build", *(argument.format(corpus=corpus) for argument in arguments), cwd=None)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_full_scratch_disk_fails_the_build_and_not_the_clips(corpus, tmp_path, pal_shard) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from pal_ds.ffmpeg.process import ToolError
    from shards.catalog.origins import Origins
    from shards.catalog.rows import Row
    from shards.encoding.profiles import PROFILES
    from shards.encoding.transcode import ClipLimits, Transcoder

    name = next(corpus.rglob("*.mp4")).relative_to(corpus)
    row = Row(source=str(name), root=0, location=str(name), size=1000)
    (tmp_path / f"{row.key}.mp4").symlink_to("/dev/full")
    with pytest.raises(ToolError, match="no space left"):
        Transcoder(PROFILES["fast"], ClipLimits(), Origins([str(corpus)])).make_clips([row], tmp_path)


@pytest.mark.slow
def test_a_ray_cluster_gives_the_bytes_of_one_machine(corpus, tmp_path, pal_shard) -> None:
    pytest.importorskip("ray")
    assert pal_shard("build", corpus, tmp_path / "local", *SMALL).returncode == 0
    # Ray keeps Unix sockets below its folder, whose paths may have 107 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        env = {"RAY_TMPDIR": short, "TMPDIR": short}
        done = pal_shard("build", corpus, tmp_path / "ray", *SMALL, "--executor", "ray", env=env)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
