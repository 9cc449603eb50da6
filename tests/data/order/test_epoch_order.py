import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.data.order.epoch_order import EpochOrder, EpochPlan, allowed_world_sizes
from tests.support.epoch_plans import epoch_groups, plan_of, split_of

geometries = st.fixed_dictionaries(
    {
        "counts": st.lists(st.integers(1, 60), min_size=1, max_size=8),
        "group_size": st.integers(3, 9),
        "k": st.integers(1, 6),
        "lanes": st.integers(1, 20),
        "slice_clips": st.integers(1, 20),
        "window_slices": st.integers(1, 5),
    }
).filter(lambda made: sum(made["counts"]) >= made["group_size"] * made["k"])


@given(geometries, st.integers(0, 2**40), st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_every_clip_is_used_once_but_for_the_dropped_tail(geometry, seed, epoch):
    plan = plan_of(**geometry)
    used = [clip for _, clips in epoch_groups(EpochOrder(plan, seed, epoch)) for clip in clips]
    assert len(used) == len(set(used)) == plan.clips - plan.dropped_clips
    assert plan.dropped_clips < plan.global_batch
    assert all(0 <= clip < geometry["counts"][shard] for shard, clip in used)


@given(geometries, st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_a_lane_holds_the_groups_of_its_residue_in_windows_of_two_or_more(geometry, seed):
    plan = plan_of(**geometry)
    order = EpochOrder(plan, seed, 0)
    sizes: dict = {}
    for group, (place, _) in enumerate(epoch_groups(order)):
        assert place.lane == group % plan.lanes
        assert place.offset == sizes.get(place[:2], 0) * plan.group_size
        sizes[place[:2]] = sizes.get(place[:2], 0) + 1
    assert all(plan.lane_groups(lane) >= 2 for lane in range(plan.lanes)) or plan.steps_per_epoch == 1
    for (lane, window), groups in sizes.items():
        first, last = order.window_span(lane, window)
        assert last - first == groups * plan.group_size
        assert groups >= 2 or plan.steps_per_epoch == 1
        assert groups * plan.group_size * plan.clip_bytes <= plan.window_bytes


@given(geometries)
@settings(max_examples=40, deadline=None)
def test_a_step_uses_the_lanes_of_its_turn(geometry):
    plan = plan_of(**geometry)
    order = EpochOrder(plan, 1, 0)
    k, c = plan.groups_per_step, plan.lane_rounds
    for step in range(plan.steps_per_epoch):
        lanes = [order.place(group).lane for group in range(step * k, step * k + k)]
        assert lanes == list(range((step % c) * k, (step % c) * k + k))


@given(geometries, st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_block_of_neighbours_stays_together_and_whole_blocks_are_shuffled(geometry, blocks, seed):
    size = geometry["group_size"]
    plan = plan_of(**{**geometry, "group_size": size * blocks, "block_clips": size, "k": 1, "counts": [400]})
    order = EpochOrder(plan, seed, 0)
    seen = []
    for place, clips in epoch_groups(order):
        first, last = order.window_span(place.lane, place.window)
        stretch = [tuple(map(int, row)) for row in order.locate(np.arange(first, last))]
        neighbours = [stretch[start : start + size] for start in range(0, len(stretch), size)]
        for start in range(0, len(clips), size):
            assert clips[start : start + size] in neighbours
        seen += clips
    assert len(seen) == len(set(seen)) == plan.clips - plan.dropped_clips


def test_blocks_must_fill_a_group():
    with pytest.raises(ConfigError, match=r"data.block_clips = 3: use a divisor of data.group_size = 4"):
        plan_of([100], block_clips=3)


def test_orders_differ_between_epochs_and_seeds_and_repeat_for_the_same():
    plan = plan_of([40, 40, 40])
    epochs = {
        (seed, epoch): str(list(epoch_groups(EpochOrder(plan, seed, epoch))))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(set(epochs.values())) == 4
    assert epochs[0, 1] == str(list(epoch_groups(EpochOrder(plan, 0, 1))))


def test_a_window_mixes_slices_of_several_shards():
    plan = plan_of([60] * 10, k=1, lanes=1, slice_clips=4, window_slices=6)
    order = EpochOrder(plan, 0, 0)
    assert len(set(order.window(0, 0)[:, 0].tolist())) > 2
    assert len({shard for _, clips in list(epoch_groups(order))[:3] for shard, _ in clips}) > 1


def test_lanes_adapt_to_short_epochs_and_are_kept_otherwise():
    assert plan_of([8 * 4], lanes=16).lane_rounds == 2
    assert plan_of([8], lanes=16).lane_rounds == 1
    assert plan_of([8 * 100], lanes=16).lane_rounds == 16


def test_a_batch_larger_than_the_split_names_both():
    with pytest.raises(
        ConfigError, match=r"global_batch = 8: the split has 7 clips; use a multiple of .* = 4, at most 4"
    ):
        plan_of([3, 4])
    with pytest.raises(ConfigError, match=r"the split has 43 clips; use a multiple of .* = 8, at most 40"):
        EpochPlan.from_manifest(split_of([43]), global_batch=64, group_size=8)
    with pytest.raises(ConfigError, match=r"the split has 7 clips; they are fewer than .* = 8"):
        EpochPlan.from_manifest(split_of([7]), global_batch=64, group_size=8)


def test_a_batch_that_is_no_multiple_of_the_group_is_refused():
    with pytest.raises(ConfigError, match="group_size = 8"):
        EpochPlan.from_manifest(split_of([100]), global_batch=12, group_size=8)


def test_allowed_world_sizes_divide_the_groups_of_a_micro_step():
    assert allowed_world_sizes(96, 8) == [1, 2, 3, 4, 6, 12]
    assert allowed_world_sizes(96, 8, 2) == [1, 2, 3, 6]
    with pytest.raises(ConfigError, match=r"data\.accumulation = 5"):
        allowed_world_sizes(96, 8, 5)


def test_the_order_of_a_seed_never_changes():
    """Pins the draws: a change here breaks the resume of every existing run."""
    order = EpochOrder(plan_of([7, 30, 13]), 42, 3)
    groups = [clips for _, clips in epoch_groups(order)]
    assert groups[0] == [(1, 6), (1, 5), (2, 7), (2, 6)]
    assert groups[-1] == [(1, 0), (0, 4), (0, 5), (0, 3)]


def test_ten_million_clips_are_planned_within_the_memory_of_their_slices():
    split = split_of([500] * 20_000, clip_bytes=130_000)
    tracemalloc.start()
    plan = EpochPlan.from_manifest(split, global_batch=512, group_size=8)
    order = EpochOrder(plan, 0, 5)
    place = order.place(plan.groups_per_epoch - 1)
    rows = order.window(place.lane, place.window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.clips == 10**7
    assert np.unique(rows, axis=0).shape == rows.shape
    assert peak < 150e6
