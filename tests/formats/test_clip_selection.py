"""What conditions choose, from real shards: by the indexes alone, and by the clips' records."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.config.sources import ShardSource, Where
from pal_ds.formats import clip_scan, shardset
from pal_ds.formats.clip_selection import (
    ConditionError,
    Selection,
    describe_where,
    parse_where,
    select,
    selection_id,
)
from pal_ds.formats.record_tails import read_record
from pal_ds.formats.shardset import ShardSetError
from tests.support.tiny_shards import encode, sample, write_set


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Records of three shards: lengths, sizes, labels and sources differ."""
    small, wide = encode(1, 40), encode(2, 40, width=96, height=64)
    shards = []
    for shard, count in enumerate((9, 1, 14)):
        clips = []
        for number in range(count):
            video, width, height = ((small, 48, 36), (wide, 96, 64))[number % 2]
            frames = 25 * (1 + number)
            name = f"{('sports', 'news/daily')[number % 3 == 0]}/{shard}-{number}.mp4"
            clip = sample(
                name, video, frames, label=("jump", "run", None)[number % 3], width=width, height=height
            )
            clips.append(clip)
        shards.append(clips)
    url = write_set(tmp_path_factory.mktemp("set"), {"train": shards}, labels=("jump", "run"))
    return url, [[record for record, _ in shard] for shard in shards]


CONDITIONS = [
    (Where(min_seconds=4), lambda r: r.frames / r.fps >= 4),
    (Where(min_seconds=2, max_seconds=5), lambda r: 2 <= r.frames / r.fps <= 5),
    (Where(min_frames=100), lambda r: r.frames >= 100),
    (Where(min_fps=26), lambda r: False),
    (Where(max_fps=25), lambda r: True),
    (Where(min_side=50), lambda r: min(r.width, r.height) >= 50),
    (Where(labels=("run",)), lambda r: r.label == "run"),
    (Where(source="news/*"), lambda r: r.source.startswith("news/")),
    (Where(source=("*/0-*", "*/2-1.mp4")), lambda r: "/0-" in r.source or r.source.endswith("/2-1.mp4")),
    (Where(exclude_source="sports/*"), lambda r: not r.source.startswith("sports/")),
    (
        Where(min_seconds=3, labels=("jump", "run"), min_side=50),
        lambda r: r.frames >= 75 and r.label and r.height >= 50,
    ),
]


@pytest.mark.parametrize(("where", "expected"), CONDITIONS)
def test_conditions_choose_what_they_say(made, where, expected):
    url, records = made
    split = shardset.load_manifest(url).splits["train"]
    told = []
    found = select(url, split, where, progress=lambda done, total: told.append((done, total)))
    for shard, mine in enumerate(records):
        assert found.chosen(shard).tolist() == [bool(expected(record)) for record in mine]
    chosen = [record for mine in records for record in mine if expected(record)]
    assert found.clips == len(chosen)
    assert found.frames == sum(record.frames for record in chosen)
    assert found.seconds == pytest.approx(sum(record.duration for record in chosen))
    part = found.part_of(split)
    assert [shard.clips for shard in part.shards] == list(found.counts)
    entries = [each for shard in split.shards for each in shardset.load_index(url, shard.name).samples]
    keys = {record.key for record in chosen}
    assert part.bytes == sum(entry.size for entry in entries if entry.key in keys)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_keys_are_read_from_files(made, tmp_path):
    url, records = made
    wanted = [record.key for record in records[2][3:8]]
    (tmp_path / "keys.txt").write_text("\n".join([*wanted, "", "not-in-the-set"]) + "\n")
    (tmp_path / "less.txt").write_text(wanted[0] + "\n")
    split = shardset.load_manifest(url).splits["train"]
    where = Where(keys=str(tmp_path / "keys.txt"), exclude_keys=str(tmp_path / "less.txt"))
    found = select(url, split, where)
    assert np.flatnonzero(found.chosen(2)).tolist() == [4, 5, 6, 7]
    assert found.counts == (0, 0, 4)


def test_a_selection_is_known_by_what_it_is_and_not_by_where_its_files_lie(tmp_path):
    for name, content in (("a", "x\n"), ("b", "x\n"), ("c", "y\n")):
        (tmp_path / name).write_text(content)
    a, b, c = (
        selection_id("m", "train", Where(min_seconds=2, keys=str(tmp_path / name)))
        for name in ("a", "b", "c")
    )
    assert a == b != c
    assert describe_where(Where(min_seconds=2)) == {"min_seconds": 2.0}
    assert len({a, selection_id("m", "val", Where()), selection_id("n", "val", Where())}) == 3


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=40), min_size=1, max_size=9))
def test_a_selection_survives_its_file(chosen):
    bits = np.packbits(np.concatenate([np.array(shard) for shard in chosen])).tobytes()
    selection = Selection(
        shard_clips=tuple(map(len, chosen)),
        counts=tuple(map(sum, chosen)),
        shard_bytes=(7,) * len(chosen),
        frames=3,
        seconds=0.25,
        bits=bits,
    )
    for found in (Selection.from_bytes(selection.to_bytes()), Selection.from_text(selection.to_text())):
        assert found == selection
        assert [found.chosen(shard).tolist() for shard in range(len(chosen))] == chosen
    with pytest.raises(ShardSetError, match="selection"):
        Selection.from_bytes(selection.to_bytes()[:-3])


@pytest.mark.slow
def test_processes_find_what_this_one_finds(made, monkeypatch):
    url, _ = made
    split = shardset.load_manifest(url).splits["train"]
    where = Where(min_seconds=2, source="sports/*")
    alone = select(url, split, where)
    monkeypatch.setattr(clip_scan, "FEW_SHARDS", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert select(url, split, where) == alone
    wrong = dataclasses.replace(split.shards[1], name="train-000009.tar")
    broken = dataclasses.replace(split, shards=(split.shards[0], wrong))
    with pytest.raises(shardset.storage.StorageNotFoundError, match="train-000009"):
        select(url, broken, where)


def test_an_index_that_disagrees_with_the_manifest_is_told(made):
    url, _ = made
    split = shardset.load_manifest(url).splits["train"]
    more = dataclasses.replace(split.shards[1], clips=2)
    with pytest.raises(ShardSetError, match=r"train-000001\.index\.json: 1 samples, 2 in the manifest"):
        select(url, dataclasses.replace(split, shards=(split.shards[0], more)), Where())


def test_a_record_is_read_without_its_video(made):
    url, records = made
    entries = shardset.load_index(url, "train-000000.tar").samples
    for entry, record in zip(entries, records[0], strict=True):
        assert read_record(f"{url}/train-000000.tar", entry) == record


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("min_seconds: 4, labels: [run]", Where(min_seconds=4, labels=("run",))),
        ("{source: 'a/*'}", Where(source=("a/*",))),
        ("", Where()),
    ],
)
def test_conditions_are_written_as_yaml(text, expected):
    assert parse_where(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_second: 4", "did you mean where.min_seconds"),
        ("min_side: small", "where.min_side = 'small': expected a whole number"),
        ("min_seconds: 4, max_seconds: 2", "use at least min_seconds = 4"),
        ("{a: [", "not readable as YAML"),
        ("__import__('os')", "unknown key"),
    ],
)
def test_conditions_that_make_no_sense_are_told(text, message):
    with pytest.raises(ConditionError, match=message):
        parse_where(text)


def test_an_entry_checks_its_names():
    with pytest.raises(ConfigError, match=r"data\.shards: split = '\.\./x'"):
        ShardSource(url="/s", split="../x")
