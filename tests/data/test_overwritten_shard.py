"""A shard that somebody overwrites while a run reads it (docs/design.md, "Failures and signals")."""

from pathlib import Path

import pytest

from pal_ds.data.errors import TooManyBadClipsError
from pal_ds.formats import shardset
from pal_ds.storage import RetryPolicy, StorageError
from tests.support.loading import global_batches, loader_of
from tests.support.tiny_shards import sample, write_set

FAST = RetryPolicy(budget_seconds=0.3, first_delay=0.01, max_delay=0.05)
#: Nothing is read ahead, so that what is overwritten is really read again.
SETTINGS = {"global_batch": 6, "worker_memory_mb": 1, "read_threads": 1, "lanes": 1}


@pytest.fixture
def url(tmp_path, videos):
    shards = [
        [sample(f"{shard}/{clip}", *videos[(shard + clip) % 6]) for clip in range(24)] for shard in range(3)
    ]
    return write_set(tmp_path / "set", {"train": shards})


def overwrite(url, how):
    """Overwrite the second shard in place and return the keys of its clips."""
    shard = Path(url) / "train-000001.tar"
    index = shardset.load_index(url, shard.name)
    data = bytearray(shard.read_bytes())
    if how == "other videos":
        # Every video of the same length as before, and every record as it was.
        for entry in index.samples:
            data[entry.offset + 600 : entry.offset + 700] = bytes(100)
    elif how == "another shard":
        data = bytearray((Path(url) / "train-000002.tar").read_bytes())
    else:
        data = data[: len(data) // 3]
    shard.write_bytes(data)
    return {entry.key for entry in index.samples}


@pytest.mark.parametrize("how", ["other videos", "another shard"])
def test_clips_of_an_overwritten_shard_are_replaced_alike_everywhere_and_told(url, how):
    settings = {**SETTINGS, "max_replaced_share": 1.0}
    loader = loader_of(url, **settings)
    assert not any(next(loader).replaced for _ in range(2))
    keys = overwrite(url, how)
    replaced = [row for _ in range(8) for row in next(loader).replaced]
    loader.close()
    assert replaced
    assert {row["key"] for row in replaced} <= keys
    assert {row["shard"] for row in replaced} == {"train-000001.tar"}
    assert keys.isdisjoint(row["replacement"] for row in replaced)
    expected = global_batches(url, 4, start=2, **settings)
    found = global_batches(url, 4, start=2, world_size=2, workers=1, start_method="fork", **settings)
    assert found == expected


def test_an_overwritten_shard_stops_the_run_where_few_clips_may_be_replaced(url):
    loader = loader_of(url, **SETTINGS)
    next(loader)
    overwrite(url, "other videos")
    with pytest.raises(TooManyBadClipsError, match=r"max_replaced_share = 0\.05.*train-000001\.tar \("):
        for _ in range(40):
            next(loader)
    loader.close()


def test_a_shard_cut_short_stops_the_run_with_one_error_after_the_budget(url):
    loader = loader_of(url, workers=1, start_method="fork", retry=FAST, **SETTINGS)
    next(loader)
    overwrite(url, "cut short")
    with pytest.raises(StorageError, match=r"train-000001\.tar: .* bytes for the range .*after \d+ tries"):
        for _ in range(40):
            next(loader)
    loader.close()
