import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.data.order.epoch_order import EpochOrder
from pal_ds.data.order.group_schedule import ATTEMPTS_PER_SCOPE, TrainSchedule
from pal_ds.data.order.validation_schedule import ValidationSchedule, validation_group_sizes
from tests.support.epoch_plans import epoch_groups, plan_of


def tasks_of(plan, *, world_size, workers, accumulation, start_step, steps):
    """Collect what all ranks and workers build, as {(step, group): clips}."""
    built = {}
    for rank in range(world_size):
        schedule = TrainSchedule(plan, seed=5, rank=rank, world_size=world_size, accumulation=accumulation)
        first = start_step * schedule.groups_per_step
        last = first + steps * schedule.groups_per_step
        for worker in range(workers):
            tasks = schedule.tasks(first, worker, workers)
            for task in itertools.takewhile(lambda task, last=last: task.number < last, tasks):
                assert schedule.owner(task.number, workers) == worker
                assert (task.step, task.group) not in built
                built[task.step, task.group] = task.clips
    return built


def test_batches_do_not_depend_on_ranks_and_workers():
    plan = plan_of([50, 13, 80], k=12, group_size=3, lanes=3)
    expected = {}
    for epoch in (0, 1):
        order = EpochOrder(plan, 5, epoch)
        for group, (_, clips) in enumerate(epoch_groups(order)):
            step = epoch * plan.steps_per_epoch + group // plan.groups_per_step
            expected[step, group] = tuple(clips)
    steps = 2 * plan.steps_per_epoch
    for world_size, workers, accumulation in [
        (1, 1, 1),
        (1, 5, 1),
        (2, 3, 1),
        (3, 2, 2),
        (4, 1, 3),
        (12, 2, 1),
    ]:
        built = tasks_of(
            plan, world_size=world_size, workers=workers, accumulation=accumulation, start_step=0, steps=steps
        )
        assert built == expected
    later = tasks_of(plan, world_size=2, workers=2, accumulation=3, start_step=3, steps=steps - 3)
    assert later == {place: clips for place, clips in expected.items() if place[0] >= 3}


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_lane_belongs_to_one_worker_over_all_epochs(world_size, workers, lanes):
    plan = plan_of([97], k=6, group_size=3, lanes=lanes)
    schedule = TrainSchedule(plan, seed=0, rank=0, world_size=world_size)
    owners: dict = {}
    for worker in range(workers):
        for task in itertools.islice(schedule.tasks(0, worker, workers), 60):
            assert owners.setdefault(task.parts[0].unit[1], worker) == worker
            assert tuple(map(tuple, task.parts[0].rest[: len(task.clips)].tolist())) == task.clips


def test_micro_steps_split_the_step_in_order():
    plan = plan_of([97], k=8, group_size=3)
    first = TrainSchedule(plan, seed=0, rank=0, world_size=2, accumulation=2)
    second = TrainSchedule(plan, seed=0, rank=1, world_size=2, accumulation=2)
    assert first.groups_per_micro_step == 2
    assert [task.group for task in itertools.islice(first.tasks(0), 4)] == [0, 1, 4, 5]
    assert [task.group for task in itertools.islice(second.tasks(0), 4)] == [2, 3, 6, 7]


def test_a_world_size_that_does_not_divide_is_refused_with_those_that_do():
    plan = plan_of([200], k=6, group_size=3)
    with pytest.raises(ConfigError, match=r"world size = 4: .* use one of 1, 2, 3, 6"):
        TrainSchedule(plan, seed=0, rank=0, world_size=4)


def test_stand_ins_come_from_the_window_then_the_lane_then_anywhere():
    plan = plan_of([400], k=2, group_size=4, lanes=2, slice_clips=4, window_slices=2)
    schedule = TrainSchedule(plan, seed=0, rank=0, world_size=1)
    task = next(schedule.tasks(6))
    order = EpochOrder(plan, 0, 0)
    lane = {tuple(row) for row in order.locate(_span(order.lane_span(task.parts[0].unit[1]))).tolist()}
    window = {tuple(row) for row in order.window(*task.parts[0].unit[1:3]).tolist()}
    found = [[schedule.stand_in(task, place, attempt) for place in range(4)] for attempt in range(60)]
    for attempt, drawn in enumerate(found):
        scope = window if attempt < ATTEMPTS_PER_SCOPE else lane if attempt < 2 * ATTEMPTS_PER_SCOPE else None
        for position in filter(None, drawn):
            assert position not in task.clips
            assert scope is None or position in scope
    assert any(position and position not in lane for drawn in found for position in drawn)
    other_rank = TrainSchedule(plan, seed=0, rank=task.group % 2, world_size=2)
    same = next(each for each in other_rank.tasks(0) if (each.step, each.group) == (task.step, task.group))
    assert [
        [other_rank.stand_in(same, place, attempt) for place in range(4)] for attempt in range(60)
    ] == found


def _span(span):
    return np.arange(*span)


def test_a_worker_without_a_lane_has_no_tasks():
    schedule = TrainSchedule(plan_of([40], k=1, lanes=3), seed=0, rank=0, world_size=1)
    assert schedule.most_workers == 3
    assert list(schedule.tasks(0, worker=3, workers=4)) == []


@given(st.integers(3, 300), st.integers(3, 12))
def test_validation_groups_use_all_clips_and_hold_three(clips, group_size):
    sizes = validation_group_sizes(clips, group_size)
    assert sum(sizes) == clips
    assert min(sizes) >= 3
    assert max(sizes) <= group_size + 2
    assert len(set(sizes[:-2])) <= 1


def test_validation_needs_three_clips():
    with pytest.raises(ConfigError, match="--val-fraction"):
        validation_group_sizes(2, 8)


def test_validation_groups_are_dealt_to_ranks_in_turn():
    plan = plan_of([20, 15], k=1, group_size=3, lanes=1)
    whole = list(ValidationSchedule(plan, group_size=8, seed=3, rank=0, world_size=1).tasks(0))
    assert sorted(clip for task in whole for clip in task.clips) == [
        (shard, clip) for shard, count in enumerate((20, 15)) for clip in range(count)
    ]
    dealt = {}
    for rank in range(3):
        schedule = ValidationSchedule(plan, group_size=8, seed=3, rank=rank, world_size=3)
        for worker in range(2):
            dealt.update({task.group: task.clips for task in schedule.tasks(0, worker, 2)})
    assert dealt == {task.group: task.clips for task in whole}
