import itertools
from pathlib import Path

import pytest

from pal_ds import storage
from pal_ds.data.clip_stream import ClipStream, fits_whole_windows
from pal_ds.data.errors import ClipCorruptError
from pal_ds.data.order.epoch_order import ClipPosition, EpochPlan
from pal_ds.data.order.group_schedule import TrainSchedule
from pal_ds.data.shard_list import ShardList
from pal_ds.formats import shardset
from pal_ds.storage import RetryPolicy
from tests.support.tiny_shards import sample, write_set


@pytest.fixture
def bulk_set(tmp_path):
    """120 clips of 20 KB of noise in 3 shards: no videos, which reading doesn't need."""
    import random

    draw = random.Random(0)
    shards = [
        [sample(f"{shard}/{clip}", draw.randbytes(20_000), 64) for clip in range(40)] for shard in range(3)
    ]
    return write_set(tmp_path / "set", {"train": shards})


def plan_and_stream(url, *, whole_windows, budget=10**7, threads=2, lanes=2, window_slices=2):
    split = shardset.load_manifest(url).splits["train"]
    plan = EpochPlan.from_manifest(
        split,
        global_batch=8,
        group_size=4,
        lanes_per_group=lanes,
        slice_bytes=100_000,
        window_slices=window_slices,
    )
    stream = ClipStream(
        ShardList.of(url, plan.shard_names),
        clip_bytes=plan.clip_bytes,
        budget_bytes=budget,
        whole_windows=whole_windows,
        threads=threads,
        retry=RetryPolicy(budget_seconds=0.3, first_delay=0.05),
    )
    return plan, stream


def keys_of(url, position):
    name = shardset.shard_name("train", position.shard)
    return shardset.load_index(url, name).samples[position.clip].key


@pytest.mark.parametrize("whole_windows", [True, False])
@pytest.mark.parametrize("start", [0, 7])
def test_every_task_gets_its_clips_in_order(bulk_set, whole_windows, start):
    plan, stream = plan_and_stream(bulk_set, whole_windows=whole_windows)
    schedule = TrainSchedule(plan, seed=1, rank=0, world_size=1)
    for task, clips in itertools.islice(stream.groups(schedule.tasks(start)), 50):
        assert [clip.key for clip in clips] == [keys_of(bulk_set, position) for position in task.clips]
    stream.close()


def test_whole_windows_take_few_requests_and_groups_many(bulk_set):
    requests = {}
    for whole_windows in (True, False):
        plan, stream = plan_and_stream(bulk_set, whole_windows=whole_windows, lanes=1, window_slices=12)
        schedule = TrainSchedule(plan, seed=1, rank=0, world_size=1)
        tasks = itertools.islice(schedule.tasks(0), plan.groups_per_epoch)
        assert len(list(stream.groups(tasks))) == plan.groups_per_epoch
        assert stream.counters.bytes > 120 * 20_000
        requests[whole_windows] = stream.counters.requests - len(plan.shard_names)
        stream.close()
    assert 2 * requests[True] < requests[False]


@pytest.mark.parametrize("whole_windows", [True, False])
def test_held_bytes_stay_within_the_budget_and_one_unit(bulk_set, whole_windows):
    budget = 600_000
    plan, stream = plan_and_stream(bulk_set, whole_windows=whole_windows, budget=budget)
    unit = plan.window_bytes if whole_windows else 4 * plan.clip_bytes
    schedule = TrainSchedule(plan, seed=1, rank=0, world_size=1)
    for _ in itertools.islice(stream.groups(schedule.tasks(0)), 80):
        held = sum(each.held() for each in stream._units.values())
        assert held <= budget + unit
    stream.close()


def test_windows_are_read_whole_only_where_all_open_ones_fit():
    assert fits_whole_windows(open_windows=4, window_bytes=10, budget_bytes=50)
    assert not fits_whole_windows(open_windows=5, window_bytes=10, budget_bytes=50)


@pytest.mark.parametrize("whole_windows", [True, False])
def test_damaged_clips_come_as_errors_and_spare_their_neighbours(bulk_set, whole_windows):
    shard = Path(bulk_set) / "train-000001.tar"
    data = bytearray(shard.read_bytes())
    index = shardset.load_index(bulk_set, shard.name)
    flipped, torn = index.samples[5], index.samples[20]
    data[flipped.offset + 700] ^= 1
    data[torn.offset : torn.offset + 600] = bytes(600)
    shard.write_bytes(bytes(data))
    plan, stream = plan_and_stream(bulk_set, whole_windows=whole_windows)
    schedule = TrainSchedule(plan, seed=1, rank=0, world_size=1)
    wrong = {}
    for task, clips in itertools.islice(stream.groups(schedule.tasks(0)), plan.groups_per_epoch):
        for position, clip in zip(task.clips, clips, strict=True):
            if isinstance(clip, ClipCorruptError):
                wrong[clip.key] = clip.reason
            else:
                assert clip.key == keys_of(bulk_set, position)
    assert set(wrong) == {flipped.key, torn.key}
    assert "SHA-256" in wrong[flipped.key]
    assert all("train-000001.tar" in reason for reason in wrong.values())
    stream.close()


def test_a_shard_overwritten_by_another_is_noticed(bulk_set):
    folder = Path(bulk_set)
    (folder / "train-000001.tar").write_bytes((folder / "train-000002.tar").read_bytes())
    _, stream = plan_and_stream(bulk_set, whole_windows=False)
    clip = stream.fetch(ClipPosition(1, 3))
    assert isinstance(clip, ClipCorruptError)
    assert "overwritten" in clip.reason
    stream.close()


def test_an_unreachable_store_is_one_error_after_the_budget(bulk_set, monkeypatch):
    plan, stream = plan_and_stream(bulk_set, whole_windows=True)
    schedule = TrainSchedule(plan, seed=1, rank=0, world_size=1)

    def broken(*_args, **_kwargs):
        raise storage.StorageError(bulk_set, "connection reset")

    monkeypatch.setattr(storage, "read_range", broken)
    with pytest.raises(storage.StorageError, match="connection reset"):
        next(stream.groups(schedule.tasks(0)))
    stream.close()


def test_an_index_cut_short_is_read_again_and_a_broken_one_is_told(bulk_set, monkeypatch):
    read, cuts = storage.read_bytes, iter([200, 3000, None])

    def cut(url, **options):
        data = read(url, **options)
        return data[: next(cuts)] if url.endswith(".index.json") else data

    monkeypatch.setattr(storage, "read_bytes", cut)
    _, stream = plan_and_stream(bulk_set, whole_windows=False)
    assert stream.fetch(ClipPosition(1, 3)).key == sample("1/3", b"", 64)[0].key
    assert stream.counters.retries == 2
    cuts = itertools.repeat(200)
    with pytest.raises(shardset.ShardSetError, match="not JSON"):
        stream.fetch(ClipPosition(2, 3))
    stream.close()


def test_indexes_are_kept_within_their_memory(bulk_set, monkeypatch):
    monkeypatch.setattr("pal_ds.data.shard_indexes.INDEX_BYTES", 3000)
    _, stream = plan_and_stream(bulk_set, whole_windows=False)
    for shard in (0, 1, 2, 1, 0):
        position = ClipPosition(shard, 3)
        assert stream.fetch(position).key == keys_of(bulk_set, position)
        held = sum(index.bytes for index in stream._indexes._indexes.values())
        assert held == stream._indexes._index_bytes <= 3000
    assert len(stream._indexes._indexes) == 2
    stream.close()
