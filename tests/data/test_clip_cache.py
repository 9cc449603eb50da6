"""``data.cache_dir``: later epochs read from disk, and nothing else changes."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.data.clip_cache import CacheSpec, ClipCache
from tests.support.loading import global_batches, group_print, loader_of
from tests.support.tiny_shards import sample, write_set

#: 51 of the 53 clips an epoch, in 17 steps.
FINE = {"global_batch": 3}
STEPS = 17
LIMIT = 100_000_000


def stats_of(loader, steps: int):
    for _ in range(steps):
        next(loader)
    return loader.stats()


def test_the_second_epoch_reads_from_disk_and_the_sequence_is_the_same(shard_url, tmp_path) -> None:
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": LIMIT}
    loader = loader_of(shard_url, **FINE, **cache)
    first = stats_of(loader, STEPS)
    second = stats_of(loader, STEPS)
    loader.close()
    from_store, from_disk = second.bytes - first.bytes, second.cached_bytes - first.cached_bytes
    assert first.bytes > 0
    assert from_disk / (from_store + from_disk) >= 0.95
    plain = global_batches(shard_url, 3, start=STEPS, **FINE)
    assert global_batches(shard_url, 3, start=STEPS, **FINE, **cache) == plain
    # Group by group instead of whole windows: the samples are the same.
    small = {**FINE, "worker_memory_mb": 1}
    assert global_batches(shard_url, 3, start=STEPS, **small, **cache) == plain


def test_without_a_cache_nothing_is_counted_and_nothing_written(shard_url, tmp_path) -> None:
    loader = loader_of(shard_url, **FINE)
    assert stats_of(loader, 2).cached_bytes == 0
    loader.close()
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_was_made_anew_is_never_served_from_the_old_one(videos, tmp_path) -> None:
    def make(turn: int) -> str:
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        rows = [sample(f"{place}.mp4", *videos[(place + turn) % 3]) for place in range(12)]
        return write_set(tmp_path / "set", {"train": [rows]})

    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": LIMIT}
    old = global_batches(make(0), 2, **FINE, **cache)
    url = make(1)
    new = global_batches(url, 2, **FINE, **cache)
    assert new == global_batches(url, 2, **FINE)
    assert new != old


def test_a_damaged_cache_changes_nothing(shard_url, tmp_path) -> None:
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": LIMIT}
    plain = global_batches(shard_url, 4, **FINE, **cache)
    pieces = [path for path in (tmp_path / "cache").glob("*/*") if path.is_file()]
    assert len(pieces) >= 12
    for path in pieces:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert global_batches(shard_url, 4, **FINE, **cache) == plain


@pytest.mark.slow
def test_workers_share_it_and_a_killed_one_leaves_it_right(shard_url, tmp_path) -> None:
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": 400_000}
    plain = global_batches(shard_url, 2 * STEPS, **FINE)

    seen = []
    loader = loader_of(shard_url, workers=2, **FINE, **cache)
    for number in range(2 * STEPS):
        micro = next(loader)
        seen.append([[group_print(group) for group in micro.groups]])
        if number in (3, STEPS + 3):
            os.kill(loader._feed._source._workers[0].process.pid, signal.SIGKILL)
        held = sum(path.stat().st_size for path in Path(tmp_path / "cache").glob("*/*") if path.exists())
        assert held <= 400_000
    assert loader.stats().worker_restarts >= 1
    assert loader.stats().cached_bytes > 0
    loader.close()
    assert seen == plain


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"cache_dir": "/nvme"}, "data.cache_bytes"),
        ({"cache_bytes": 5}, "data.cache_bytes"),
        ({"cache_dir": "s3://bucket/cache", "cache_bytes": 5}, "data.cache_dir"),
        ({"cache_dir": "/nvme", "cache_bytes": -1}, "data.cache_bytes"),
        ({"cache_frames": True}, "data.cache_frames"),
        (
            {"cache_dir": "/nvme", "cache_bytes": 5, "cache_frames": True, "decode_device": "cuda"},
            "data.cache_frames",
        ),
    ],
)
def test_half_a_setting_is_refused(settings, field) -> None:
    with pytest.raises(ConfigError, match=field):
        DataConfig(shards="somewhere", **settings)


def test_an_entry_belongs_to_one_clip_wherever_it_lies(tmp_path) -> None:
    cache = ClipCache(CacheSpec(folder=str(tmp_path), limit_bytes=LIMIT, marks=(b"mark",)))
    cache.put(0, "one", 512, b"video")
    assert cache.get(0, "one", 512, 5) == b"video"
    assert cache.get(0, "another", 512, 5) is None
    cache.close()
