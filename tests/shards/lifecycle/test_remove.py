"""remove and compact: clips are gone everywhere, all others stay what and, for older generations, where they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pal_ds.formats import shardset
from pal_ds.formats.shardset import ShardIndex
from shards.cli import main as pal_shard
from shards.inspection.verify import verify
from tests.support.foreign_tars import shard_writer_set, sums
from tests.support.reading_sets import clips_of, places_of


def keys_file(dest: Path, *names: str) -> str:
    path = dest.parent / "keys.txt"
    path.write_text("# asked for\n\n" + "\n".join(names) + "\n")
    return str(path)


def first_keys(dest: Path, count: int = 1) -> list[str]:
    """The first keys of the first shard."""
    return places_of(dest, shardset.load_manifest(str(dest)))[0][:count]


def remove(dest: Path, *names: str, how: tuple[str, ...] = ()) -> int:
    return pal_shard(["remove", str(dest), "--keys", keys_file(dest, *names), *how, "--quiet"])


def assert_down(dest: Path, clips: dict[str, str], gone: set[str]) -> None:
    """Every generation has all clips but those, at their old places, and the set is sound."""
    rest = {key: value for key, value in clips.items() if key not in gone}
    assert clips_of(dest) == rest
    manifest = shardset.load_manifest(str(dest))
    while manifest.previous is not None:
        manifest = shardset.load_manifest(str(dest), digest=manifest.previous)
        assert clips_of(dest, manifest) == rest
    assert verify(str(dest), quiet=True).problems == []


@pytest.mark.parametrize("how", [(), ("--now",), ("--purge",)])
def test_removed_clips_are_gone_from_every_generation(how: tuple[str, ...], dest: Path) -> None:
    clips, tars = clips_of(dest), sums(dest)
    manifest = shardset.load_manifest(str(dest))
    places = places_of(dest, manifest)
    gone = {places[0][0], places[1][1]}
    assert remove(dest, *gone, how=(*how, "--reason", "asked")) == 0
    assert_down(dest, clips, gone)
    # A run on the old generation finds every clip where it was.
    assert places_of(dest, manifest) == places
    lines = [json.loads(line) for line in (dest / "removals.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines} == gone
    assert all(sorted(line) == ["key", "reason", "time"] and line["reason"] == "asked" for line in lines)
    now = sums(dest)
    first, second = (f"train-{number:06d}.tar" for number in range(2))
    if "--purge" in how:
        assert not {first, second} & now.keys()
    else:
        assert {name: now[name] for name in (first, second)} == {name: tars[name] for name in (first, second)}
    assert (len([name for name in now if name.endswith(".tar")]) > len(manifest.shards())) == (how == ())


def test_compact_takes_the_bytes_away(dest: Path, corpus: Path) -> None:
    clips, gone = clips_of(dest), set(first_keys(dest))
    (key,) = gone
    tar = dest / "train-000000.tar"
    content = tar.read_bytes()
    video = next(path for path in corpus.rglob("*.mp4") if path.read_bytes() in content)
    assert remove(dest, *gone, how=("--now",)) == 0
    assert key.encode() in tar.read_bytes()
    assert pal_shard(["compact", str(dest), "--quiet"]) == 0
    assert_down(dest, clips, gone)
    kept = clips.keys() - gone
    for path in dest.glob("*.tar"):
        assert key.encode() not in path.read_bytes()
        assert video.read_bytes() not in path.read_bytes() or clips[key] in {clips[name] for name in kept}
    assert shardset.load_manifest(str(dest)).generation == 3
    assert pal_shard(["compact", str(dest), "--quiet"]) == 0
    assert shardset.load_manifest(str(dest)).generation == 3


def test_removals_follow_one_another_and_appends(dest: Path, corpus: Path) -> None:
    """Six changes, one on the other, with the same shard hit again and again."""
    clips = clips_of(dest)
    gone: set[str] = set()
    for how in (("--now",), (), ("--purge",), ("--now",)):
        keys = set(first_keys(dest))
        gone |= keys
        assert remove(dest, *keys, how=how) == 0
        assert_down(dest, clips, gone)
    assert pal_shard(["append", str(corpus), str(dest), "--shard-bytes", "120KB", "--quiet"]) == 0
    # What was taken down does not come back by appending its source.
    assert not gone & clips_of(dest).keys()
    assert len(clips_of(dest)) == 12 - len(gone)
    assert pal_shard(["compact", str(dest), "--quiet"]) == 0
    assert verify(str(dest), decode=True, quiet=True).problems == []
    manifest = shardset.load_manifest(str(dest))
    while manifest.previous is not None:
        manifest = shardset.load_manifest(str(dest), digest=manifest.previous)
        clips_of(dest, manifest)


def test_a_whole_shard_may_go_and_a_whole_split(dest: Path) -> None:
    clips = clips_of(dest)
    keys = places_of(dest, shardset.load_manifest(str(dest)))[0]
    assert remove(dest, *keys, how=("--purge",)) == 0
    assert_down(dest, clips, set(keys))
    assert remove(dest, *(clips.keys() - set(keys)), how=("--purge",)) == 0
    assert shardset.load_manifest(str(dest)).splits == {}
    assert verify(str(dest), quiet=True).problems == []
    assert not list(dest.glob("*.tar"))


def test_a_clip_is_named_by_its_source_too(dest: Path, grown_from: Path) -> None:
    path = next((grown_from / "few").rglob("*.mp4"))
    assert remove(dest, str(path.relative_to(grown_from / "few"))) == 0
    assert len(clips_of(dest)) == 7


def test_unknown_names_are_refused_before_anything_is_done(dest: Path, capsys) -> None:
    before = sums(dest)
    assert remove(dest, first_keys(dest)[0], "nobody") == 2
    assert "1 of 2 names are in no shard, first 'nobody'" in capsys.readouterr().err
    assert sums(dest) == before
    assert remove(dest, first_keys(dest)[0], "nobody", how=("--ignore-unknown",)) == 0
    # Asked for again, it is known to be down.
    after = sums(dest)
    assert remove(dest, json.loads((dest / "removals.jsonl").read_text())["key"]) == 0
    assert sums(dest) == after


def test_contradictions_are_refused(dest: Path, capsys) -> None:
    assert remove(dest, "a", how=("--now", "--purge")) == 2
    assert "--now touches no tar" in capsys.readouterr().err
    assert remove(dest) == 2
    assert "names no clip" in capsys.readouterr().err


def test_adopted_tars_are_left_alone(corpus: Path, tmp_path: Path, capsys) -> None:
    tars = shard_writer_set(tmp_path / "tars", sorted(corpus.rglob("*.mp4"))[:6], per_tar=3)
    dest = tmp_path / "set"
    assert pal_shard(["adopt", str(tars), str(dest), "--quiet"]) == 0
    before, clips, gone = sums(tars), clips_of(dest), set(first_keys(dest))
    assert remove(dest, *gone, how=("--purge",)) == 0
    assert "their bytes stay there" in capsys.readouterr().out
    assert sums(tars) == before
    assert_down(dest, clips, gone)
    assert pal_shard(["compact", str(dest), "--quiet"]) == 0
    assert_down(dest, clips, gone)


def _index(dest: Path, number: int) -> Path:
    return dest / f"train-{number:06d}.index.json"


def _put_back(dest: Path, copy: Path) -> None:
    shutil.copy(_index(copy, 0), _index(dest, 0))


def _forget(dest: Path, copy: Path) -> None:
    (dest / "removals.jsonl").unlink()


def _change_history(dest: Path, copy: Path) -> None:
    path = dest / "manifest-000001.json"
    path.write_bytes(path.read_bytes().replace(b'"rejected": 0', b'"rejected": 1'))


def _stray(dest: Path, copy: Path) -> None:
    (dest / "train-000099.tar").write_bytes(bytes(1024))


def _mark(dest: Path, copy: Path) -> None:
    index = ShardIndex.from_json(_index(dest, 1).read_bytes())
    data = json.loads(index.to_json())
    data["samples"][0] |= {"offset": 0, "size": 0}
    _index(dest, 1).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_put_back, "train-000000.index.json: still lists 1 clips that were taken down"),
        (_forget, "removals.jsonl: 0 lines, the manifest says 1"),
        (_change_history, "manifest-000001.json was changed"),
        (_stray, "train-000099.tar: is no part of the set"),
        (_mark, "marked as removed without a line in removals.jsonl"),
    ],
)
def test_verify_finds_what_is_wrong_with_generations(
    damage, problem: str, dest: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(dest, tmp_path / "copy"))
    assert remove(dest, *first_keys(dest), how=("--now",)) == 0
    damage(dest, copy)
    assert any(problem in found for found in verify(str(dest), quiet=True).problems)
