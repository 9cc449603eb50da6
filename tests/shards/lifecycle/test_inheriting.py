"""append follows the set's own rules unless others are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pal_ds.formats import shardset
from shards.cli import main as pal_shard
from tests.support.clips import make_video
from tests.support.foreign_tars import shard_writer_set
from tests.support.reading_sets import clips_of

RULES = ("--with-labels", "--keep-labels", "--max-seconds", "30", "--min-frames", "20", "--min-side", "16")
RULES += ("--min-motion", "0.001", "--dedupe", "content", "--shard-bytes", "60KB", "--seed", "3")
KEPT = (
    "keep_labels",
    "max_seconds",
    "min_frames",
    "filters",
    "dedupe",
    "shard_bytes",
    "seed",
    "profile",
    "short_side",
)


def appended(dest: Path) -> dict[str, object]:
    return shardset.load_manifest(str(dest)).appended[-1]


def test_filters_and_limits_of_the_set_hold_for_what_is_appended(
    corpus: Path, grown_from: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "set"
    words = [str(grown_from / "few"), str(dest), *RULES, "--short-side", "32", "--quiet"]
    assert pal_shard(["build", *words]) == 0
    make_video(tmp_path / "more" / "a" / "short.mp4", seconds=0.5)
    make_video(tmp_path / "more" / "a" / "long.mp4", seconds=1)
    assert pal_shard(["append", str(tmp_path / "more"), str(dest), "--quiet"]) == 3
    built = shardset.load_manifest(str(dest)).recipe
    assert {name: appended(dest)[name] for name in KEPT} == {name: built[name] for name in KEPT}
    (reject,) = map(json.loads, (dest / "rejects-000002.jsonl").read_text().splitlines())
    assert "fewer than --min-frames 20" in reject["error"]
    given = ["--min-frames", "2", "--dedupe", "identity", "--seed", "0", "--quiet"]
    assert pal_shard(["append", str(tmp_path / "more"), str(dest), *given]) == 0
    assert {name: appended(dest)[name] for name in ("min_frames", "dedupe", "seed", "max_seconds")} == {
        "min_frames": 2, "dedupe": "identity", "seed": 0, "max_seconds": 30.0,
    }  # fmt: skip


def test_videos_are_cut_as_the_sets_own_and_only_new_pieces_come(tmp_path: Path, capsys) -> None:
    videos, dest = tmp_path / "videos", tmp_path / "set"
    make_video(videos / "one.mp4", seconds=2.2)
    make_video(videos / "short.mp4", seconds=0.6, hue=40)
    chunked = ["--chunk", "1", "--quiet"]
    assert pal_shard(["build", str(videos), str(dest), *chunked]) == 0
    before = clips_of(dest)
    # Again, with the rules given or not: nothing is new, and the one whole video that is no piece is no error.
    for more in (chunked, ["--quiet"]):
        assert pal_shard(["append", str(videos), str(dest), *more]) == 0
        assert shardset.load_manifest(str(dest)).generation == 1
    assert not (dest / "_unfinished").exists()
    make_video(videos / "two.mp4", seconds=2.2, hue=120)
    assert pal_shard(["append", str(videos), str(dest), "--quiet"]) == 0
    built = shardset.load_manifest(str(dest)).recipe
    assert appended(dest)["cutting"] == built["cutting"]
    assert len(clips_of(dest)) == len(before) + 2
    # Rows that name spans are not cut, and the set's own rules are no error there.
    (tmp_path / "spans.csv").write_text("path,start,end\ntwo.mp4,0.2,0.9\n")
    words = ["append", str(tmp_path / "spans.csv"), str(dest), "--video-root", str(videos), "--quiet"]
    assert pal_shard(words) == 0
    assert pal_shard([*words, "--chunk", "1"]) == 2
    assert "--chunk has no effect" in capsys.readouterr().err
    assert pal_shard(["append", str(videos), str(dest), "--copy", "--quiet"]) == 2
    assert "which --copy can't" in capsys.readouterr().err


def test_a_clip_that_was_taken_down_keeps_no_other_out(tmp_path: Path) -> None:
    """Compared with what is appended are new inputs alone, not those that are passed over."""
    videos, dest = tmp_path / "videos", tmp_path / "set"
    first = make_video(videos / "a.mp4", seconds=2.2)
    make_video(videos / "b.mp4", seconds=2.2, extra=("-vf", "hflip"))
    rules = ["--chunk", "1", "--dedupe", "near", "--quiet"]
    assert pal_shard(["build", str(videos), str(dest), *rules]) == 0
    (tmp_path / "keys").write_text("a.mp4#t=0,1\na.mp4#t=1,2.2\n")
    assert pal_shard(["remove", str(dest), "--keys", str(tmp_path / "keys"), "--quiet"]) == 0
    (videos / "copy.mp4").write_bytes(first.read_bytes())
    assert pal_shard(["append", str(videos), str(dest), "--quiet"]) == 0
    assert len(clips_of(dest)) == 4


@pytest.mark.parametrize("words", [("--val-fraction", "0.5"), ("--split", "other")])
def test_adopting_more_tars_follows_the_limits_of_the_set(
    words: tuple[str, ...], corpus: Path, tmp_path: Path
) -> None:

    videos = sorted(corpus.rglob("*.mp4"))
    first = shard_writer_set(tmp_path / "first", videos[:4], per_tar=2)
    more = shard_writer_set(tmp_path / "second" / "more", videos[4:8], per_tar=2)
    dest = tmp_path / "set"
    rules = [
        "--min-frames",
        "3",
        "--max-seconds",
        "20",
        "--video-member",
        "mp4",
        "--label-member",
        "cls",
        *words,
    ]
    assert pal_shard(["adopt", str(first), str(dest), *rules, "--quiet"]) == 0
    assert pal_shard(["adopt", str(more.parent), str(dest), "--append", "--quiet"]) == 0
    built = shardset.load_manifest(str(dest)).recipe
    names = ("min_frames", "max_seconds", "video_member", "label_member", "split", "val_fraction")
    assert {name: appended(dest)[name] for name in names} == {name: built[name] for name in names}
