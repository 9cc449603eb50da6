"""Batches are equal for every geometry and resume (docs/design.md, "Order of data").

``PAL_FULL_SIZE=1`` crosses every geometry with every start method and every step with every geometry.
"""

import os
from pathlib import Path

import pytest
import torch

from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.data.errors import TooManyBadClipsError
from pal_ds.data.loader import GroupLoader
from pal_ds.data.synthesis.render import render
from pal_ds.formats import shardset
from tests.support.loading import AUGMENT, SYNTHESIS, global_batches, loader_of
from tests.support.tiny_shards import encode, sample, write_set

FULL = os.environ.get("PAL_FULL_SIZE") == "1"
#: (ranks, workers) beside the golden one of 1 rank and 0 workers.
GEOMETRIES = [(1, 1), (1, 2), (2, 1), (2, 3), (4, 2)]


@pytest.fixture(scope="module")
def golden(shard_url):
    return global_batches(shard_url, 9)


@pytest.mark.parametrize(("world_size", "workers"), GEOMETRIES)
def test_batches_are_the_same_for_all_ranks_and_workers(shard_url, golden, world_size, workers):
    found = global_batches(shard_url, 9, world_size=world_size, workers=workers, start_method="fork")
    assert found == golden


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "workers"), GEOMETRIES if FULL else [(1, 2)])
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_batches_are_the_same_for_all_start_methods(shard_url, golden, start_method, world_size, workers):
    found = global_batches(shard_url, 9, world_size=world_size, workers=workers, start_method=start_method)
    assert found == golden


@pytest.mark.parametrize(
    "settings",
    [
        {"worker_memory_mb": 1, "read_threads": 1},
        {"prefetch": 5, "read_threads": 8},
        {"workers": 1, "prefetch": 1, "start_method": "fork"},
    ],
)
def test_settings_of_speed_and_memory_never_change_a_batch(shard_url, golden, settings):
    loader = loader_of(shard_url, **settings)
    if settings.get("worker_memory_mb") == 1:
        assert not loader._spec.whole_windows
    loader.close()
    assert global_batches(shard_url, 9, **settings) == golden


def test_a_resume_at_any_step_goes_on_identically(shard_url, golden):
    for start in range(5):
        assert global_batches(shard_url, 6 - start, start=start) == golden[start:6]


@pytest.mark.parametrize("start", range(6))
def test_a_resume_at_any_step_and_another_geometry_goes_on_identically(shard_url, golden, start):
    for world_size, workers in GEOMETRIES if FULL else [GEOMETRIES[start % len(GEOMETRIES)]]:
        found = global_batches(
            shard_url, 3, start=start, world_size=world_size, workers=workers, start_method="fork"
        )
        assert found == golden[start : start + 3]


def test_accumulation_changes_the_grouping_but_not_the_order(shard_url, golden):
    split = global_batches(shard_url, 5, accumulation=2, world_size=2)
    assert [[group for micro in step for group in micro] for step in split] == [
        step[0] for step in golden[:5]
    ]


def test_rendered_views_are_the_same_wherever_they_are_built(shard_url):
    here, there = loader_of(shard_url), loader_of(shard_url, workers=1, start_method="fork", resize="worker")
    for _ in range(2):
        a, b = (render(next(loader), SYNTHESIS, AUGMENT) for loader in (here, there))
        for name in ("query_bjcthw", "key_bjcthw", "query_region_b2", "key_region_b2", "labels_b"):
            assert torch.equal(a[name], b[name])
    there.close()


def test_every_clip_comes_once_an_epoch_but_for_the_dropped_tail(shard_url):
    loader = loader_of(shard_url)
    plan = loader.plan
    assert (plan.steps_per_epoch, plan.lanes, plan.dropped_clips) == (4, 8, 5)
    epochs = []
    for _ in range(2):
        micros = [next(loader).keys for _ in range(plan.steps_per_epoch)]
        epochs.append([key for groups in micros for keys in groups for key in keys])
    everything = {
        entry.key for name in plan.shard_names for entry in shardset.load_index(shard_url, name).samples
    }
    for keys in epochs:
        assert len(keys) == len(set(keys)) == 48
        assert set(keys) <= everything
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) != set(epochs[1]), "another tail is dropped"


def test_position_counts_what_was_handed_out_not_what_was_read_ahead(shard_url):
    loader = loader_of(shard_url, workers=1, start_method="fork", accumulation=2)
    assert loader.state_dict() == {"step": 0}
    next(loader)
    assert loader.state_dict() == {"step": 0}, "half a step is done again"
    next(loader)
    assert loader.state_dict() == {"step": 1}
    loader.close()


def test_stats_tell_what_was_done(shard_url):
    loader = loader_of(shard_url, workers=1, start_method="fork")
    for _ in range(3):
        next(loader)
    stats = loader.stats()
    assert stats.clips == 36
    assert stats.bytes > 0
    assert stats.requests > 0
    assert stats.decode_seconds > 0
    assert stats.data_wait_seconds > 0
    assert (stats.retries, stats.replaced, stats.worker_restarts) == (0, 0, 0)
    loader.close()


def test_a_broken_clip_is_replaced_alike_everywhere_and_told(tmp_path, videos):
    samples = []
    for number in range(30):
        video, frames = videos[number % 6]
        record, video = sample(f"{number}.mp4", video, frames)
        samples.append((record, video))
    broken = samples[11] = sample("11.mp4", encode(11, 60)[:1500], 60)
    url = write_set(tmp_path / "broken", {"train": [samples]})
    settings = {"global_batch": 6, "max_replaced_share": 1.0}
    expected = global_batches(url, 5, **settings)
    assert global_batches(url, 5, world_size=2, workers=1, start_method="fork", **settings) == expected
    loader = loader_of(url, **settings)
    replaced = [row for _ in range(5) for row in next(loader).replaced]
    (row,) = replaced
    assert row["key"] == broken[0].key
    assert row["replacement"] not in (None, broken[0].key)
    assert row["shard"] == "train-000000.tar"
    assert loader.stats().replaced == 1


def test_too_many_broken_clips_stop_the_run_and_name_the_shards(tmp_path, videos):
    good = [sample(f"good-{number}.mp4", *videos[number % 6]) for number in range(24)]
    bad = [sample(f"bad-{number}.mp4", b"no video", 60) for number in range(24)]
    url = write_set(tmp_path / "bad", {"train": [good, bad]})
    loader = loader_of(url, workers=1, start_method="fork", global_batch=6)
    with pytest.raises(TooManyBadClipsError, match=r"max_replaced_share = 0\.05.*train-000001\.tar \("):
        for _ in range(8):
            next(loader)
    loader.close()


def test_workers_without_a_lane_are_warned_of_and_not_started(shard_url):
    data = DataConfig(shards=shard_url, global_batch=48, group_size=24, workers=3, start_method="fork")
    with pytest.warns(UserWarning, match="has 1 lanes, so 2 workers have nothing to do"):
        loader = GroupLoader(
            shard_url, data=data, synthesis=SYNTHESIS, augment=AUGMENT, seed=0, rank=0, world_size=2
        )
    next(loader)
    next(loader)
    assert loader.stats().worker_restarts == 0
    loader.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"global_batch": 54}, "data.global_batch = 54: the split has 53 clips"),
        ({"world_size": 3}, "world size = 3: .* use one of 1, 2, 4"),
    ],
)
def test_a_batch_that_cannot_be_dealt_is_refused(shard_url, settings, message):
    with pytest.raises(ConfigError, match=message):
        loader_of(shard_url, **settings)


def test_a_missing_set_or_split_is_told(shard_url, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.shards"):
        loader_of("")
    with pytest.raises(shardset.ShardSetError, match=r"no manifest\.json"):
        loader_of(str(tmp_path))
    with pytest.raises(shardset.ShardSetError, match="no split 'test'; it has train, val"):
        GroupLoader(
            shard_url,
            data=DataConfig(),
            synthesis=SYNTHESIS,
            augment=AUGMENT,
            seed=0,
            rank=0,
            world_size=1,
            split="test",
        )


def test_nothing_is_written_to_the_local_disk(shard_url, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    named = set(Path("/dev/shm").iterdir())
    loader = loader_of(shard_url, workers=1, start_method="fork")
    next(loader)
    assert list(tmp_path.iterdir()) == []
    mine = [path for path in Path("/dev/shm").iterdir() if path not in named and "torch" in path.name]
    assert mine == []
    loader.close()
