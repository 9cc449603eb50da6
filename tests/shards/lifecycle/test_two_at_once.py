"""Several processes at one set: each step that another may take in between is taken there, by a second caller."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pal_ds.formats import shardset
from pal_ds.formats.shard_files import INTENT_NAME
from pal_ds.storage.scratch import scratch_folder
from shards.builder.journal import Journal
from shards.cli import main as pal_shard
from shards.errors import BuildError
from shards.inspection.verify import verify
from shards.lifecycle import append, finish_change, remove
from shards.lifecycle.intent import Intent, ShardChange, read_intent, write_intent
from tests.support.foreign_tars import shard_writer_set
from tests.support.full import rest
from tests.support.reading_sets import clips_of, places_of
from tests.support.shard_files import files_of

MORE = ("--shard-bytes", "60KB", "--quiet")


def once(function: Callable[..., Any], before: Callable[[], object]) -> Callable[..., Any]:
    """Return the function; before it runs for the first time something else does."""
    waiting = [before]

    def called(*arguments: Any, **named: Any) -> Any:
        if waiting:
            waiting.pop()()
        return function(*arguments, **named)

    return called


def keys_file(dest: Path, number: int) -> tuple[str, str]:
    """A file with the first key of a shard, and the key."""
    key = places_of(dest, shardset.load_manifest(str(dest)))[number][0]
    path = dest.parent / f"keys-{number}"
    path.write_text(key)
    return str(path), key


STEPS = ("rewrite", "commit", "_leave_tombstones", "add_removals", "purge", "drop_intent")


@pytest.mark.parametrize(
    ("step", "how"), [*((step, "--purge") for step in STEPS), *rest((step, "--now") for step in STEPS)]
)
def test_a_removal_may_be_finished_by_two(step: str, how: str, dest: Path, monkeypatch) -> None:
    file, key = keys_file(dest, 0)
    clips = clips_of(dest)

    def second() -> None:
        remove.compact(str(dest), quiet=True)

    monkeypatch.setattr(finish_change, step, once(getattr(finish_change, step), second))
    assert pal_shard(["remove", str(dest), "--keys", file, how, "--quiet"]) == 0
    del clips[key]
    assert clips_of(dest) == clips
    assert verify(str(dest), quiet=True).problems == []
    assert len((dest / "removals.jsonl").read_text().splitlines()) == 1
    manifest = shardset.load_manifest(str(dest))
    while manifest.previous is not None:
        manifest = shardset.load_manifest(str(dest), digest=manifest.previous)
        assert clips_of(dest, manifest) == clips


@pytest.mark.parametrize("step", ["rewrite", "purge"])
def test_who_is_late_leaves_the_next_removal_alone(step: str, dest: Path, monkeypatch) -> None:
    """The second caller finishes the first removal and is then killed in the middle of one of its own."""
    (first, one), (other, two) = keys_file(dest, 0), keys_file(dest, 1)

    def second() -> None:
        remove.compact(str(dest), quiet=True)
        manifest = shardset.load_manifest(str(dest))
        found, _ = remove._locate(str(dest), manifest, [two])
        changes = remove._changes(str(dest), manifest, found, is_rewritten=True)
        write_intent(str(dest), Intent(changes=changes, time="then", reason="second", purge=False))

    monkeypatch.setattr(finish_change, step, once(getattr(finish_change, step), second))
    assert pal_shard(["remove", str(dest), "--keys", first, "--purge", "--quiet"]) == 0
    left = read_intent(str(dest))
    assert left is not None and left.reason == "second"
    assert pal_shard(["remove", str(dest), "--keys", other, "--quiet"]) == 0
    assert not {one, two} & clips_of(dest).keys()
    assert verify(str(dest), quiet=True).problems == []


def test_a_removal_that_another_replaced_says_so(dest: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    file, _ = keys_file(dest, 0)
    other = Intent(changes=(), time="then", reason="", purge=False)
    replace = once(finish_change.rewrite, lambda: None)

    def overwritten(*arguments: Any) -> Any:
        write_intent(str(dest), other)
        (dest / "train-000000.tar").unlink()
        return replace(*arguments)

    monkeypatch.setattr(finish_change, "rewrite", overwritten)
    assert pal_shard(["remove", str(dest), "--keys", file, "--purge", "--quiet"]) == 1
    assert "another removal has begun meanwhile" in capsys.readouterr().err


def test_an_append_overtakes_the_commit_of_a_removal(corpus: Path, dest: Path, monkeypatch) -> None:
    file, key = keys_file(dest, 0)
    expected = clips_of(dest)

    def second() -> None:
        assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 0

    monkeypatch.setattr(finish_change, "commit", once(finish_change.commit, second))
    assert pal_shard(["remove", str(dest), "--keys", file, "--quiet"]) == 0
    manifest = shardset.load_manifest(str(dest))
    assert (manifest.generation, manifest.splits["train"].clips) == (3, 11)
    assert clips_of(dest).items() >= {name: sha for name, sha in expected.items() if name != key}.items()
    assert verify(str(dest), quiet=True).problems == []


def test_numbers_of_a_removal_under_way_are_not_taken(corpus: Path, dest: Path, capsys) -> None:
    """Killed after its intent: the append goes on beside it, the removal is finished later."""
    file, key = keys_file(dest, 0)
    manifest = shardset.load_manifest(str(dest))
    found, _ = remove._locate(str(dest), manifest, [key])
    changes = remove._changes(str(dest), manifest, found, is_rewritten=True)
    write_intent(str(dest), Intent(changes=changes, time="then", reason="", purge=False))
    assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 0
    assert {change.new for change in changes}.isdisjoint(
        entry.name for entry in shardset.load_manifest(str(dest)).shards()
    )
    assert pal_shard(["remove", str(dest), "--keys", file, "--quiet"]) == 0
    assert len(clips_of(dest)) == 11
    assert verify(str(dest), quiet=True).problems == []


def test_append_and_removal_that_begin_at_one_moment_do_not_share_numbers(
    corpus: Path, dest: Path, monkeypatch, capsys
) -> None:
    change = ShardChange(
        split="train", old="train-000000.tar", new="train-000004.tar", keys=("a",), is_rewritten=True
    )
    intent = Intent(changes=(change,), time="then", reason="", purge=False)
    begin = append.write_begin
    monkeypatch.setattr(append, "write_begin", once(begin, lambda: write_intent(str(dest), intent)))
    assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 1
    assert "a removal has begun meanwhile" in capsys.readouterr().err
    assert Journal(str(dest)).read_plan() is None
    (dest / INTENT_NAME).unlink()
    monkeypatch.undo()
    task = ("--num-tasks", "9", "--task-index", "8")
    file, _ = keys_file(dest, 0)

    def second() -> None:
        assert pal_shard(["append", str(corpus), str(dest), *MORE, *task]) == 0

    monkeypatch.setattr(remove, "write_intent", once(remove.write_intent, second))
    assert pal_shard(["remove", str(dest), "--keys", file, "--quiet"]) == 1
    assert "an append has begun meanwhile" in capsys.readouterr().err
    monkeypatch.undo()
    assert pal_shard(["remove", str(dest), "--keys", file, "--quiet"]) == 0
    assert pal_shard(["append", str(corpus), str(dest), *MORE]) == 0
    assert verify(str(dest), quiet=True).problems == []


@pytest.mark.parametrize("kind", ["append", "adopt"])
def test_tasks_that_begin_together_share_one_plan(
    kind: str, corpus: Path, dest: Path, tmp_path: Path, monkeypatch
) -> None:
    """The second task plans and makes its shards while the first one still gathers its inputs."""
    words = ["append", str(corpus), str(dest), *MORE]
    if kind == "adopt":
        tars = shard_writer_set(tmp_path / "tars", sorted(corpus.rglob("*.mp4"))[8:], per_tar=2)
        words = ["adopt", "--append", str(tars), str(dest), "--quiet"]
    beside = Path(shutil.copytree(dest, tmp_path / "beside"))
    assert pal_shard([word.replace(str(dest), str(beside)) for word in words]) == 0
    tasks = [[*words, "--num-tasks", "2", "--task-index", str(index)] for index in range(2)]

    def second() -> None:
        assert pal_shard(tasks[1]) == 0

    place = append if kind == "append" else __import__("shards.adoption.adopt", fromlist=["adopt"])
    monkeypatch.setattr(place, "place_after", once(place.place_after, second))
    assert pal_shard(tasks[0]) == 0
    assert pal_shard(["finish", str(dest), "--quiet"]) == 0
    assert files_of(dest) == files_of(beside)


def test_an_append_that_another_overtook_says_so(corpus: Path, dest: Path, monkeypatch, capsys) -> None:
    words = ["append", str(corpus), str(dest), *MORE]

    def second() -> None:
        assert pal_shard(words) == 0

    monkeypatch.setattr(append, "place_after", once(append.place_after, second))
    assert pal_shard(words) == 1
    assert "another append has ended meanwhile" in capsys.readouterr().err
    assert verify(str(dest), quiet=True).problems == []


def test_an_intent_with_a_path_for_a_name_is_refused(dest: Path) -> None:
    change = {"split": "train", "old": "../x", "new": None, "keys": [], "is_rewritten": False}
    document = {"changes": [change], "time": "", "reason": "", "purge": False}
    (dest / INTENT_NAME).write_text(json.dumps(document))
    with pytest.raises(shardset.ShardSetError, match="damaged"), scratch_folder() as scratch:
        finish_change.finish_change(str(dest), scratch)


def test_a_plan_with_a_path_for_a_split_is_refused(dest: Path) -> None:
    (dest / "_unfinished").mkdir()
    (dest / "_unfinished" / "plan.json").write_text(
        '{"recipe": {}, "inputs": 1, "shards": [["../x", 0, 1, 1]]}'
    )
    with pytest.raises(BuildError, match="damaged"):
        Journal(str(dest)).read_plan()
