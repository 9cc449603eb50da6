"""The index of a shard: what it says comes from a store, and its names become parts of paths."""

from __future__ import annotations

import json

import pytest

from pal_ds.formats.sample_record import SampleRecord
from pal_ds.formats.shard_index import AdoptedVideo, SampleEntry, ShardIndex
from pal_ds.formats.shardset import Manifest, ShardSetError

PLACE = {"offset": 0, "size": 1024, "frames": 8, "fps": 8.0}
RECORD = SampleRecord(
    key="aa", source="a", start=0, end=1, duration=1, fps=8, frames=8, width=8, height=8, bytes=1, sha256="0"
)


@pytest.mark.parametrize("key", ["../../aa", "/etc/aa", "a.b", "a/b", "", "x" * 129, None, 7])
def test_a_key_that_is_no_plain_name_is_refused(key: object) -> None:
    document = {
        "format": "pal-shard-index/1",
        "shard": "train-000000.tar",
        "samples": [{"key": key, **PLACE}],
    }
    with pytest.raises(ShardSetError, match="not a plain name"):
        ShardIndex.from_json(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("member", "extension"),
    [
        ("a/b.MP4", "mp4"),
        ("a.left.webm", "webm"),
        ("a./../../../etc/x", "video"),
        ("a", "a"),
        ("a." + "x" * 300, "video"),
        ("a.m p", "video"),
    ],
)
def test_the_ending_of_an_adopted_video_is_letters_and_digits(member: str, extension: str) -> None:
    assert AdoptedVideo(member=member, offset=0, record=RECORD).extension == extension


def test_a_row_comes_back_as_it_was() -> None:
    video = AdoptedVideo(member="a.mp4", offset=512, record=RECORD)
    for entry in (SampleEntry(key="aa", **PLACE), SampleEntry(key="aa", **PLACE, video=video)):
        assert SampleEntry.from_row(json.loads(json.dumps(entry.to_row()))) == entry


def test_a_manifest_names_shards_alone() -> None:
    shard = {"name": "train-000001.tar", "clips": 1, "bytes": 1, "sha256": "0", "replaces": "../x"}
    split = {"clips": 1, "frames": 1, "seconds": 1.0, "bytes": 1, "shards": [shard]}
    document = {"format": "pal-shardset/1", "recipe": {}, "splits": {"train": split}}
    with pytest.raises(ShardSetError, match=r"'\.\./x' is not a shard name"):
        Manifest.from_json(json.dumps(document).encode())
