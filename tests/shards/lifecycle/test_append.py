"""append: a new generation, old files untouched, every input counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pal_ds.formats import shardset
from shards.cli import main as pal_shard
from shards.inspection.verify import verify
from tests.support.clips import make_video
from tests.support.reading_sets import clips_of
from tests.support.shard_files import files_of

MORE = ("--shard-bytes", "120KB", "--quiet")


def test_what_is_new_is_appended_and_the_old_files_stay(corpus: Path, dest: Path, capsys) -> None:
    before, clips = files_of(dest), clips_of(dest)
    assert pal_shard(["append", str(corpus), str(dest), *MORE, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["inputs"], said["clips"], said["rejected"]) == (4, 4, 0)
    after = files_of(dest)
    assert after["manifest-000001.json"] == before["manifest.json"]
    kept = {name: data for name, data in before.items() if name != "manifest.json"}
    assert {name: after[name] for name in kept} == kept
    manifest = shardset.load_manifest(str(dest))
    assert (manifest.generation, manifest.splits["train"].clips) == (2, 12)
    assert clips_of(dest).items() >= clips.items()
    found = verify(str(dest), decode=True, quiet=True)
    assert (found.problems, found.notes, found.clips) == ([], [], 12)
    old = shardset.load_manifest(str(dest), digest=manifest.previous)
    assert clips_of(dest, old) == clips


def test_appending_the_same_again_changes_nothing(corpus: Path, dest: Path, capsys) -> None:
    assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 0
    before = files_of(dest)
    assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 0
    assert "took up 0 clips of 0 inputs" in capsys.readouterr().out
    assert files_of(dest) == before


def test_it_is_encoded_as_the_set_was(corpus: Path, grown_from: Path, dest: Path) -> None:
    assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 0
    manifest = shardset.load_manifest(str(dest))
    assert [recipe["profile"] for recipe in manifest.appended] == ["copy"]
    # Its bytes are the files' own.
    whole = dest.parent / "whole"
    assert pal_shard(["build", str(corpus), str(whole), "--copy", *MORE]) == 0
    assert clips_of(dest) == clips_of(whole)


def test_a_reject_that_is_mended_is_a_reject_no_more(grown_from: Path, dest: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "bad.mp4").write_text("no video")
    (more / "worse.mp4").write_text("no video either")
    assert pal_shard(["append", str(more), str(dest), *MORE]) == 3
    assert shardset.load_manifest(str(dest)).rejected == 2
    make_video(more / "bad.mp4", seconds=1)
    assert pal_shard(["append", str(more), str(dest), *MORE]) == 3
    manifest = shardset.load_manifest(str(dest))
    assert (manifest.generation, manifest.rejected, manifest.splits["train"].clips) == (3, 1, 9)
    listed = (dest / "rejects-000003.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"] for line in listed] == ["worse.mp4"]
    assert (dest / "rejects.jsonl").read_text() == ""
    assert verify(str(dest), quiet=True).problems == []


def test_several_tasks_append_as_one_does(corpus: Path, dest: Path, tmp_path: Path) -> None:
    beside = Path(shutil.copytree(dest, tmp_path / "beside"))
    assert pal_shard(["append", str(corpus), str(beside), *MORE]) == 0
    for task in ("0", "1"):
        words = ["append", str(corpus), str(dest), *MORE, "--num-tasks", "2", "--task-index", task]
        assert pal_shard(words) == 0
        assert shardset.load_manifest(str(dest)).generation == 1
    assert any("append is under way" in problem for problem in verify(str(dest), quiet=True).problems)
    assert pal_shard(["finish", str(dest), "--quiet"]) == 0
    assert files_of(dest) == files_of(beside)


def test_an_append_that_was_begun_is_protected_and_can_be_given_up(
    corpus: Path, grown_from: Path, dest: Path, capsys
) -> None:
    before = files_of(dest)
    task = ["append", str(corpus), str(dest), *MORE, "--num-tasks", "2", "--task-index", "0"]
    assert pal_shard(task) == 0
    build = ["build", str(grown_from / "few"), str(dest), "--copy", "--shard-bytes", "120KB", "--quiet"]
    assert pal_shard(build) == 0
    other = ["append", str(corpus / "class 1"), str(dest), *MORE]
    assert pal_shard(other) == 2
    assert "something else is being appended" in capsys.readouterr().err
    assert pal_shard(["clean", str(dest)]) == 2
    assert pal_shard(["clean", str(dest), "--unfinished"]) == 0
    assert files_of(dest) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--overwrite"], "--overwrite"), (["--with-labels"], "made without labels")],
)
def test_what_contradicts_the_set_is_refused(
    more: list[str], message: str, corpus, dest: Path, capsys
) -> None:
    assert pal_shard(["append", str(corpus), str(dest), *MORE, *more]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_tells_what_would_come(corpus: Path, dest: Path, capsys) -> None:
    before = files_of(dest)
    assert pal_shard(["append", str(corpus), str(dest), *MORE, "--dry-run"]) == 0
    assert "would make 4 clips of 4 inputs" in capsys.readouterr().out
    assert files_of(dest) == before


def test_retry_is_refused_after_an_append(corpus: Path, dest: Path, grown_from: Path, capsys) -> None:
    assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 0
    assert pal_shard(["retry", str(grown_from / "few"), str(dest), "--copy", *MORE]) == 2
    assert "has 2 generations" in capsys.readouterr().err
