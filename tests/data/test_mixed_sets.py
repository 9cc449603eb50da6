"""Batches drawn from several shard sets: equal for every geometry and resume, and never confused between sets."""

import collections
import dataclasses
import itertools

import pytest

from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.config.sources import ShardSource, Where
from pal_ds.data.loader import GroupLoader
from pal_ds.data.validation_set import ValidationSet
from pal_ds.formats import shardset
from tests.support.loading import AUGMENT, GEOMETRY, SYNTHESIS, global_batches, group_print, loader_of
from tests.support.tiny_shards import encode, sample, write_set

#: (ranks, workers, accumulation).
GEOMETRIES = [(1, 1, 1), (1, 3, 1), (2, 2, 1), (4, 1, 1), (2, 1, 2)]


@pytest.fixture(scope="module")
def mix(shard_url, tmp_path_factory, videos):
    """The common set of 53 clips, a larger one whose keys are partly the same, and one that has to be repeated."""

    def shard(name, count, first=0):
        made = []
        for place in range(first, first + count):
            video, frames = videos[place % len(videos)]
            made.append(sample(name.format(place), video, frames, label=("jump", "run")[place % 2]))
        return made

    folder = tmp_path_factory.mktemp("mix")
    other = write_set(
        folder / "other",
        {"train": [shard("train/0/{}.mp4", 15), shard("other/{}.mp4", 60)], "val": [shard("v/{}.mp4", 5)]},
        labels=("jump", "run"),
    )
    small = write_set(folder / "small", {"extra": [shard("small/{}.mp4", 9)]}, labels=("jump", "run"))
    return (
        ShardSource(url=shard_url, weight=2.0),
        ShardSource(url=other, weight=1.0, where=Where(min_frames=60)),
        ShardSource(url=small, weight=1.0, split="extra"),
    )


@pytest.fixture(scope="module")
def golden(mix):
    return global_batches(mix, 12)


@pytest.mark.parametrize(("world_size", "workers", "accumulation"), GEOMETRIES)
def test_batches_are_the_same_for_all_ranks_and_workers(mix, golden, world_size, workers, accumulation):
    found = global_batches(
        mix,
        4,
        start=5,
        world_size=world_size,
        workers=workers,
        accumulation=accumulation,
        start_method="fork",
    )
    assert [list(itertools.chain(*step)) for step in found] == [step[0] for step in golden[5:9]]


def test_a_resume_at_any_step_goes_on_identically(mix, golden):
    for start in range(11):
        assert global_batches(mix, 1, start=start, worker_memory_mb=1 + start) == golden[start : start + 1]


@pytest.mark.parametrize("how", ["within_group", "by_group"])
def test_shares_are_those_of_the_weights(mix, how):
    loader = loader_of(mix, mix=how, epoch_clips=96)
    counts = collections.Counter()
    for _ in range(loader.plan.steps_per_epoch):
        for group in next(loader).groups:
            counts.update(group.clip_sources)
            assert how == "within_group" or len(set(group.clip_sources)) == 1
    assert counts == {0: 48, 1: 24, 2: 24}
    loader.close()


def test_a_list_of_one_set_is_that_set(shard_url):
    expected = global_batches(shard_url, 6)
    assert global_batches((ShardSource(url=shard_url),), 6) == expected


def test_groups_read_by_window_are_those_read_one_by_one(mix, golden):
    loader = loader_of(mix, worker_memory_mb=500)
    assert loader._spec.whole_windows
    loader.close()
    small = loader_of(mix, worker_memory_mb=1)
    assert not small._spec.whole_windows
    small.close()
    assert (
        global_batches(mix, 12, worker_memory_mb=1) == golden == global_batches(mix, 12, worker_memory_mb=500)
    )


def test_conditions_hold_for_every_clip_that_is_drawn(mix):
    loader = loader_of(mix)
    frames = [
        info["frames"]
        for _ in range(8)
        for group in next(loader).groups
        for info, source in zip(group.info, group.clip_sources, strict=True)
        if source == 1
    ]
    loader.close()
    assert frames
    assert min(frames) >= 60


def test_equal_keys_of_two_sets_and_of_two_passes_draw_differently(shard_url, tmp_path, videos):
    made = [sample(f"train/0/{number}.mp4", *videos[number % 6]) for number in range(12)]
    twin = write_set(tmp_path / "twin", {"train": [made]})
    two = (ShardSource(url=shard_url, weight=1.0), ShardSource(url=twin, weight=1.0))
    loader = loader_of(two, epoch_clips=48)
    seen = collections.defaultdict(list)
    recordings = collections.defaultdict(set)
    for _ in range(loader.plan.steps_per_epoch):
        micro = next(loader)
        places = [
            (key, place)
            for group in micro.groups
            for key, place in zip(group.keys, group.clip_sources, strict=True)
        ]
        for (key, place), recording in zip(places, micro.recordings_b.tolist(), strict=True):
            recordings[key].add((place, recording))
        for group in micro.groups:
            for number, key in enumerate(group.keys):
                look = (group.region[number].tolist(), group.beta[number].tolist())
                seen[key].append((group.clip_sources[number], repr(look)))
    loader.close()
    shared = {key: looks for key, looks in seen.items() if len({source for source, _ in looks}) == 2}
    assert shared
    for key in shared:
        assert len({recording for _, recording in recordings[key]}) == 2, (
            "equal names of two sets are two recordings"
        )
    assert any(len([source for source, _ in looks if source == 1]) > 1 for looks in seen.values())
    for looks in seen.values():
        assert len({look for _, look in looks}) == len(looks)


def test_a_broken_clip_is_replaced_from_its_own_set(tmp_path, shard_url, videos):
    samples = [sample(f"b{number}.mp4", *videos[number % 6]) for number in range(24)]
    for number in range(0, 24, 4):
        samples[number] = sample(f"b{number}.mp4", encode(number, 60)[:1500], 60)
    url = write_set(tmp_path / "broken", {"train": [samples]})
    keys = {record.key for record, _ in samples}
    two = (ShardSource(url=shard_url, weight=2.0), ShardSource(url=url, weight=1.0))
    settings = {"max_replaced_share": 1.0}
    expected = global_batches(two, 5, **settings)
    assert global_batches(two, 5, world_size=2, workers=2, start_method="fork", **settings) == expected
    loader = loader_of(two, **settings)
    rows = []
    for _ in range(5):
        micro = next(loader)
        rows += micro.replaced
        for group in micro.groups:
            for key, source in zip(group.keys, group.clip_sources, strict=True):
                assert (key in keys) == (source == 1)
    loader.close()
    assert rows
    assert {row["source"] for row in rows} == {1}
    assert {row["replacement"] in keys for row in rows} == {True}
    assert {row["shard"] for row in rows} == {f"{url}/train-000000.tar"}


def test_labels_are_used_where_all_sets_agree_on_them(mix, tmp_path, videos):
    assert -1 not in next(loader_of(mix)).labels_b.tolist()
    made = [sample(f"x{number}.mp4", *videos[number % 6], label="swim") for number in range(12)]
    other = write_set(tmp_path / "other", {"train": [made]}, labels=("swim",))
    loader = loader_of((*mix[:1], ShardSource(url=other, weight=1.0)))
    assert set(next(loader).labels_b.tolist()) == {-1}
    loader.close()


def validation(sources, **settings):
    data = DataConfig(workers=0, **GEOMETRY)
    made = {"data": data, "synthesis": SYNTHESIS, "augment": AUGMENT, "seed": 5}
    return ValidationSet(sources, **made, **{"rank": 0, "world_size": 1, **settings})


def test_validation_goes_through_the_val_splits_of_all_sets(mix):
    def seen(sources, **settings):
        return [
            (group_print(group), group.keys, group.clip_sources)
            for micro in validation(sources, **settings)
            for group in micro.groups
        ]

    whole = seen(mix)
    sources = collections.Counter(source for _, _, clip_sources in whole for source in clip_sources)
    # Of five clips two have fewer frames than the condition wants; the third set has no val split.
    assert sources == {0: 11, 1: 4}
    parts = [seen(mix, rank=rank, world_size=2) for rank in range(2)]
    assert [parts[number % 2][number // 2] for number in range(len(whole))] == whole
    left_out = (mix[0], dataclasses.replace(mix[1], val_split=""), mix[2])
    assert [row[0] for row in seen(left_out)] == [row[0] for row in seen(mix[:1])]


def test_a_split_beside_a_list_of_sets_has_no_effect(mix):
    for split in ("train", "extra"):
        with pytest.raises(ConfigError, match=rf"split = '{split}': has no effect with a list of sets"):
            GroupLoader(
                mix, data=DataConfig(shards=mix, workers=0, **GEOMETRY), synthesis=SYNTHESIS, augment=AUGMENT,
                seed=5, rank=0, world_size=1, split=split,
            )  # fmt: skip
    with pytest.raises(ConfigError, match=r"split = 'test': has no effect with a list of sets"):
        validation(mix, split="test")


def test_a_split_that_is_named_must_be_there(mix):
    with pytest.raises(shardset.ShardSetError, match="no split 'test'; it has extra"):
        validation((mix[0], dataclasses.replace(mix[2], val_split="test")))


def test_an_epoch_can_be_made_shorter_and_longer_than_a_set(shard_url):
    short, long = (loader_of(shard_url, epoch_clips=clips) for clips in (24, 120))
    assert (short.plan.steps_per_epoch, long.plan.steps_per_epoch) == (2, 10)
    keys = [key for _ in range(4) for group in next(short).groups for key in group.keys]
    assert len(set(keys)) == 48, "two short epochs share a shuffle"
    counts = collections.Counter(key for _ in range(10) for group in next(long).groups for key in group.keys)
    # 53 clips are 17 groups and a rest of two, which another pass has.
    assert set(counts.values()) <= {1, 2, 3}
    assert sum(counts.values()) == 120
    short.close()
    long.close()
