"""How many slots a worker needs, against the schedule that fills them."""

from __future__ import annotations

import collections

from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.data.order.group_schedule import TrainSchedule
from pal_ds.data.synthesis.slot_layout import most_in_use, slot_count
from tests.support.epoch_plans import plan_of


@settings(max_examples=40, deadline=None)
@given(
    world_size=st.sampled_from([1, 2, 4]),
    accumulation=st.sampled_from([1, 2]),
    lanes=st.integers(1, 3),
    workers=st.integers(1, 7),
)
def test_no_worker_has_more_groups_in_use_than_its_slots_allow_for(world_size, accumulation, lanes, workers):
    plan = plan_of([97, 60], k=8, group_size=3, lanes=lanes)
    schedule = TrainSchedule(
        plan, seed=1, rank=world_size - 1, world_size=world_size, accumulation=accumulation
    )
    count = schedule.groups_per_micro_step
    most = 0
    for first in range(0, 3 * schedule.groups_per_step * plan.steps_per_epoch, count):
        owners = collections.Counter(
            schedule.owner(number, workers) for number in range(first, first + count)
        )
        most = max(most, *owners.values())
    assert most == most_in_use(count, workers)


def test_a_worker_writes_beside_what_is_ready_and_in_use():
    assert most_in_use(5, 2) == 3
    assert most_in_use(5, 0) == 5
    assert slot_count(prefetch=2, in_use=3) == 6
