"""What a kill leaves in the unfinished folder is never taken for finished shards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from pal_ds import storage
from pal_ds.formats import shardset
from shards.builder.journal import Journal
from shards.cli import main as pal_shard
from shards.inspection.verify import verify
from tests.support.clips import make_video
from tests.support.full import rest
from tests.support.shard_files import files_of, rejects_of

BUILD = ("--copy", "--shard-bytes", "120KB", "--quiet")


class Killed(BaseException):
    """Stands for SIGKILL."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def test_parts_without_a_plan_are_nobodys(grown_from: Path, dest: Path, tmp_path: Path, capsys) -> None:
    part = b'{"shard": "train-000000.tar", "entry": null}'
    alone = tmp_path / "alone"
    for place in (alone, dest):
        (place / "_unfinished").mkdir(parents=True)
        (place / "_unfinished" / "train-000000.part.json").write_bytes(part)
    before = files_of(dest)
    build = ["build", str(grown_from / "few"), str(alone), *BUILD]
    assert pal_shard(build) == 2
    assert "without its plan" in capsys.readouterr().err
    assert pal_shard(["append", str(grown_from / "few"), str(dest), "--quiet"]) == 2
    assert "without its plan" in capsys.readouterr().err
    for place in (alone, dest):
        assert pal_shard(["clean", str(place), "--unfinished"]) == 0
    assert files_of(dest).items() == before.items() - {("_unfinished/train-000000.part.json", part)}
    assert pal_shard(build) == 0
    assert verify(str(alone), quiet=True).problems == []


@pytest.mark.parametrize("place", [1, 2, 3, *rest([0, 4, 5])])
def test_overwriting_that_was_killed_is_never_a_finished_set(
    place: int, grown_from: Path, dest: Path, monkeypatch
) -> None:
    """Killed at each deletion in turn; the rerun without --overwrite goes on or refuses, and makes no broken set."""
    build = ["build", str(grown_from / "few"), str(dest), *BUILD]
    assert pal_shard(["clean", str(dest)]) == 0
    shutil.rmtree(dest)
    assert pal_shard([*build, "--num-tasks", "2", "--task-index", "0"]) == 0
    calls = iter(range(100))

    def around(function):
        def called(*arguments, **named):
            if next(calls) == place:
                raise Killed
            return function(*arguments, **named)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove", around(storage.remove))
        patch.setattr(storage, "remove_names", around(storage.remove_names))
        with contextlib.suppress(Killed):
            assert pal_shard([*build, "--overwrite"]) == 0
    status = pal_shard(build)
    assert status in (0, 2)
    if status == 2:
        assert pal_shard([*build, "--overwrite"]) == 0
    assert verify(str(dest), quiet=True).problems == []


@pytest.fixture
def with_reject(corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Videos of which one is too short at first, and a set whose build was killed after its manifest."""
    videos, dest = tmp_path / "videos", tmp_path / "set"
    videos.mkdir()
    for path in sorted(corpus.rglob("*.mp4"))[:4]:
        shutil.copy(path, videos)
    make_video(videos / "short.mp4", seconds=0.1)
    return videos, dest


def test_retry_after_a_kill_between_manifest_and_journal(with_reject, monkeypatch) -> None:
    videos, dest = with_reject
    words = [str(videos), str(dest), *BUILD]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", killed)
        with pytest.raises(Killed):
            pal_shard(["build", *words])
    assert (dest / "_unfinished").exists() and (dest / "manifest.json").exists()
    before = {name: data for name, data in files_of(dest).items() if "_unfinished" not in name}
    assert pal_shard(["retry", *words, "--only", "verify"]) == 3
    assert files_of(dest) == before
    assert verify(str(dest), quiet=True).problems == []


def test_retry_killed_on_its_way_is_ended_by_build(with_reject, monkeypatch) -> None:
    videos, dest = with_reject
    words = [str(videos), str(dest), *BUILD]
    assert pal_shard(["build", *words]) == 3
    before = files_of(dest)
    for method in ("write_part", "remove"):
        with monkeypatch.context() as patch:
            patch.setattr(Journal, method, killed)
            with pytest.raises(Killed):
                pal_shard(["retry", *words, "--only", "verify"])
        assert pal_shard(["build", *words]) == 3
        assert files_of(dest) == before
    with monkeypatch.context() as patch:
        patch.setattr("shards.builder.retry_rejects.make", killed)
        with pytest.raises(Killed):
            pal_shard(["retry", *words, "--only", "verify"])
    assert not (dest / "manifest.json").exists()
    assert pal_shard(["build", *words]) == 3
    assert files_of(dest) == before


def test_retry_changes_nothing_where_it_should_not(with_reject, corpus: Path, capsys) -> None:
    videos, dest = with_reject
    words = [str(videos), str(dest), *BUILD]
    assert pal_shard(["build", *words]) == 3
    before = files_of(dest)
    assert pal_shard(["retry", *words, "--only", "verify", "--dry-run"]) == 0
    assert "would make" in capsys.readouterr().out
    assert files_of(dest) == before
    for more, said in (
        (["--overwrite"], "--overwrite has no effect"),
        (["--num-tasks", "2", "--task-index", "0"], "--task-index has no effect"),
    ):
        assert pal_shard(["retry", *words, *more]) == 2
        assert said in capsys.readouterr().err
    task = ["--num-tasks", "2", "--task-index", "0", "--quiet"]
    assert pal_shard(["append", str(corpus), str(dest), *task]) == 0
    begun = files_of(dest)
    assert pal_shard(["retry", *words, "--only", "verify"]) == 2
    assert "an append is under way" in capsys.readouterr().err
    assert files_of(dest) == begun


def test_the_same_append_again_is_another_append(with_reject, tmp_path: Path, monkeypatch) -> None:
    """Its recipe is that of the first one: a reject that is tried again, say."""
    videos, dest = with_reject
    more = tmp_path / "more"
    more.mkdir()
    (more / "bad.mp4").write_text("no video")
    assert pal_shard(["build", str(videos), str(dest), *BUILD]) == 3
    words = ["append", str(more), str(dest), "--quiet"]
    assert pal_shard(words) == 3
    after = files_of(dest)
    assert shardset.load_manifest(str(dest)).generation == 2
    # Nothing changes: no generation.
    assert pal_shard(words) == 3
    assert files_of(dest) == after
    # Begun again and interrupted, it is under way, not done.
    assert pal_shard([*words, "--num-tasks", "2", "--task-index", "0"]) == 3
    assert pal_shard(["clean", str(dest)]) == 2
    assert pal_shard(["finish", str(dest)]) == 3
    assert files_of(dest) == after


def test_clean_drops_what_an_append_wrote_for_its_generation(
    with_reject, tmp_path: Path, monkeypatch
) -> None:
    from shards.lifecycle import append

    videos, dest = with_reject
    assert pal_shard(["build", str(videos), str(dest), *BUILD]) == 3
    before = files_of(dest)
    make_video(tmp_path / "more" / "short.mp4", seconds=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(append, "commit", killed)
        with pytest.raises(Killed):
            pal_shard(["append", str(tmp_path / "more"), str(dest), "--min-frames", "99", "--quiet"])
    assert "rejects-000002.jsonl" in files_of(dest)
    assert pal_shard(["clean", str(dest), "--unfinished"]) == 0
    assert files_of(dest) == before
    assert verify(str(dest), quiet=True).problems == []


def fake_probe(folder: Path, name: str, trigger: Path) -> str:
    """Put an ffprobe in front that dies for one video while a file is there; returns the folder."""
    real = shutil.which("ffprobe")
    script = folder / "bin" / "ffprobe"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *{name}*) [ -e "{trigger}" ] && kill -KILL $$;; esac\nexec {real} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script.parent)


def test_a_passing_failure_before_cutting_is_tried_again(tmp_path: Path, monkeypatch, caplog) -> None:
    videos, dest = tmp_path / "videos", tmp_path / "set"
    make_video(videos / "fine.mp4", seconds=2.2)
    make_video(videos / "killed.mp4", seconds=2.2, hue=90)
    trigger = tmp_path / "trigger"
    trigger.touch()
    monkeypatch.setenv("PATH", f"{fake_probe(tmp_path, 'killed.mp4', trigger)}:{os.environ['PATH']}")
    words = [str(videos), str(dest), "--chunk", "1", "--quiet"]
    task = ["--num-tasks", "2", "--task-index"]
    assert pal_shard(["build", *words, *task, "0"]) == 0
    # Other tasks follow the plan that was published, also where the video can be read now.
    trigger.unlink()
    assert pal_shard(["build", *words, *task, "1"]) == 0
    assert pal_shard(["finish", str(dest)]) == 3
    (reject,) = rejects_of(dest)
    assert reject["source"] == "killed.mp4"
    assert reject["error"].startswith("before it was cut: ") and "killed by signal" in reject["error"]
    before = files_of(dest)
    assert pal_shard(["retry", *words]) == 3
    assert "pal-shard append with the same SOURCE tries them again" in caplog.text
    assert files_of(dest) == before
    assert pal_shard(["append", str(videos), str(dest), "--quiet"]) == 0
    manifest = shardset.load_manifest(str(dest))
    assert (manifest.generation, manifest.rejected, manifest.splits["train"].clips) == (2, 0, 4)
    assert verify(str(dest), quiet=True).problems == []


def test_a_rerun_without_a_plan_measures_passing_failures_again(tmp_path: Path, monkeypatch) -> None:
    videos, dest = tmp_path / "videos", tmp_path / "set"
    make_video(videos / "killed.mp4", seconds=2.2)
    make_video(videos / "fine.mp4", seconds=2.2, hue=90)
    trigger = tmp_path / "trigger"
    trigger.touch()
    monkeypatch.setenv("PATH", f"{fake_probe(tmp_path, 'killed.mp4', trigger)}:{os.environ['PATH']}")
    words = ["build", str(videos), str(dest), "--chunk", "1", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write_plan", killed)
        with pytest.raises(Killed):
            pal_shard(words)
    saved = b"".join(path.read_bytes() for path in (dest / "_unfinished").glob("measured-*"))
    assert b"fine.mp4" in saved and b"killed.mp4" not in saved
    trigger.unlink()
    assert pal_shard(words) == 0
    assert json.loads((dest / "manifest.json").read_bytes())["rejected"] == 0


def test_retry_refuses_other_arguments_before_it_looks_into_videos(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    videos, dest = tmp_path / "videos", tmp_path / "set"
    make_video(videos / "one.mp4", seconds=2.2)
    make_video(videos / "short.mp4", seconds=0.1)
    words = [str(videos), str(dest), "--chunk", "1", "--quiet"]
    assert pal_shard(["build", *words]) == 3
    monkeypatch.setattr("shards.builder.planning.measure", killed)
    assert pal_shard(["retry", *words, "--seed", "5", "--only", "verify"]) == 2
    assert "retry needs the arguments of the build (seed: 0 there, 5 here)" in capsys.readouterr().err
