"""The order of a mix: shares, passes, and the properties that the order of one set has."""

import collections
import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.data.order.group_schedule import ATTEMPTS_PER_SCOPE, TrainSchedule, order_of
from pal_ds.data.order.mix_plan import MixPlan
from tests.support.epoch_plans import mix_of, plan_of, source_of, split_of

geometries = st.fixed_dictionaries(
    {
        "group_size": st.integers(3, 9),
        "k": st.integers(1, 6),
        "lanes": st.integers(1, 20),
        "slice_clips": st.integers(1, 20),
        "window_slices": st.integers(1, 5),
    }
)
counts_of_a_set = st.lists(st.integers(1, 60), min_size=1, max_size=5)
mixes = st.tuples(
    st.lists(
        st.tuples(counts_of_a_set.filter(lambda counts: sum(counts) >= 20), st.floats(0.2, 5)),
        min_size=1,
        max_size=4,
    ),
    geometries,
    st.booleans(),
    st.sampled_from([0, 60, 150, 700]),
)


def plan_from(mix):
    """Plan a drawn mix; None where it can't be dealt (its batch is too large, or a set too small for its share)."""
    sets, geometry, by_group, epoch_clips = mix
    try:
        return mix_of(
            [counts for counts, _ in sets],
            [weight for _, weight in sets],
            by_group=by_group,
            epoch_clips=epoch_clips,
            **geometry,
        )
    except ConfigError:
        return None


def tasks_of(plan, start=0, groups=None, *, rank=0, world_size=1, worker=0, workers=1, accumulation=1):
    schedule = TrainSchedule(plan, seed=5, rank=rank, world_size=world_size, accumulation=accumulation)
    return itertools.islice(schedule.tasks(start, worker, workers), groups or plan.groups_per_epoch)


def by_source(task):
    """Yield (source, pass, clip) of every clip of a group."""
    clips = iter(task.clips)
    for part in task.parts:
        for clip in itertools.islice(clips, part.count):
            yield part.source, part.pass_number, clip


@given(mixes, st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_an_epoch_holds_each_source_by_its_weight_and_each_clip_once_a_pass(mix, epoch):
    plan = plan_from(mix)
    if plan is None:
        return
    drawn, passes = collections.Counter(), {}
    for task in tasks_of(plan, epoch * plan.groups_per_epoch):
        assert task.epoch == epoch
        assert len(set(task.clips)) == len(task.clips) == plan.group_size
        for source, pass_number, clip in by_source(task):
            assert source_of(plan, clip.shard) == source
            drawn[source] += 1
            passes.setdefault((source, pass_number), []).append(clip)
    weights = [weight for _, weight in mix[0]]
    clips = plan.steps_per_epoch * plan.global_batch
    for number, source in enumerate(plan.sources):
        assert drawn[number] == source.epoch_clips
        assert abs(drawn[number] - clips * weights[number] / sum(weights)) <= plan.unit
        mine = [passes[key] for key in sorted(passes) if key[0] == number]
        for used in mine:
            assert len(used) == len(set(used)) <= source.clips
        if not source.is_repeated:
            assert len(mine) == 1, "every clip of a source that is not repeated comes at most once"
        for used in mine[:-1]:
            assert len(used) > source.clips - plan.group_size, "a pass is left only when a part does not fit"


@given(mixes, st.data())
@settings(max_examples=60, deadline=None)
def test_ranks_workers_and_resumes_never_change_the_order(mix, data):
    plan = plan_from(mix)
    if plan is None:
        return
    k = plan.groups_per_step
    accumulation = data.draw(st.sampled_from([a for a in range(1, k + 1) if k % a == 0]))
    world_size = data.draw(st.sampled_from([w for w in range(1, k + 1) if (k // accumulation) % w == 0]))
    workers = data.draw(st.integers(1, 4))
    start, steps = data.draw(st.integers(0, 2 * plan.steps_per_epoch)), 3
    expected = {
        (task.step, task.group): list(by_source(task)) for task in tasks_of(plan, start * k, steps * k)
    }
    found = {}
    for rank in range(world_size):
        mine = steps * k // world_size
        for worker in range(workers):
            place = {"rank": rank, "world_size": world_size, "worker": worker, "workers": workers}
            tasks = tasks_of(plan, start * k // world_size, mine, accumulation=accumulation, **place)
            for task in itertools.takewhile(
                lambda task, mine=mine, first=start * k // world_size: task.number < first + mine, tasks
            ):
                assert (task.step, task.group) not in found
                found[task.step, task.group] = list(by_source(task))
    assert found == expected


@given(mixes)
@settings(max_examples=40, deadline=None)
def test_windows_are_used_up_from_first_clip_to_last(mix):
    """What reading whole windows relies on: a window's groups come in order, in one lane, and leave nothing."""
    plan = plan_from(mix)
    if plan is None:
        return
    left, lanes = {}, {}
    for task in tasks_of(plan):
        for part in task.parts:
            rest = [tuple(row) for row in part.rest.tolist()]
            assert rest == left.get(part.unit, rest)
            left[part.unit] = rest[part.count :]
            assert lanes.setdefault(part.unit, task.group % plan.lanes) == task.group % plan.lanes
            assert part.count < len(rest) or not left[part.unit]
    assert not any(left.values())


@given(counts_of_a_set, geometries, st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_one_set_is_dealt_as_if_there_were_no_mixing(counts, geometry, blocks):
    geometry = {**geometry, "group_size": geometry["group_size"] * blocks, "block_clips": blocks}
    if sum(counts) < geometry["group_size"] * geometry["k"]:
        return
    plain, mixed = plan_of(counts, **geometry), mix_of([counts], [3.0], **geometry)
    schedules = [TrainSchedule(plan, seed=9, rank=0, world_size=1) for plan in (plain, mixed)]
    pairs = zip(*(schedule.tasks(0) for schedule in schedules), strict=True)
    for one, two in itertools.islice(pairs, 2 * plain.groups_per_epoch):
        assert (one.clips, one.parts[0].unit) == (two.clips, two.parts[0].unit)
        assert one.parts[0].rest.tolist() == two.parts[0].rest.tolist()
        assert one.draw_prefixes() == two.draw_prefixes()
        for attempt in (0, ATTEMPTS_PER_SCOPE, 2 * ATTEMPTS_PER_SCOPE):
            assert schedules[0].stand_in(one, 1, attempt) == schedules[1].stand_in(two, 1, attempt)


def test_without_weights_sets_count_by_their_clips_and_every_clip_comes_once():
    for by_group in (False, True):
        plan = mix_of([[50, 13], [30], [7, 8, 9]], by_group=by_group)
        assert plan.steps_per_epoch * plan.global_batch <= 117
        used = [clip for task in tasks_of(plan) for clip in task.clips]
        assert len(used) == len(set(used)) == plan.steps_per_epoch * 8
        assert plan.dropped_clips == 117 - len(used)


def test_a_large_source_is_used_up_over_epochs_before_a_clip_returns():
    plan = mix_of([[40, 60], [30]], [1, 3], epoch_clips=96)
    assert [source.epochs_per_shuffle for source in plan.sources] == [4, 1]
    large = [
        clip
        for epoch in range(4)
        for task in tasks_of(plan, epoch * plan.groups_per_epoch)
        for source, _, clip in by_source(task)
        if source == 0
    ]
    assert len(large) == len(set(large)) == 4 * 24
    fifth = {clip for task in tasks_of(plan, 4 * plan.groups_per_epoch) for clip in task.clips}
    assert fifth & set(large)


def test_a_small_source_is_shuffled_anew_for_each_pass():
    plan = mix_of([[200], [20]], [1, 1])
    assert plan.sources[1].is_repeated
    passes = collections.defaultdict(list)
    for task in tasks_of(plan):
        for source, pass_number, clip in by_source(task):
            if source == 1:
                passes[pass_number].append(clip)
    assert len(passes) == 6
    assert len({tuple(clips) for clips in passes.values()}) == 6
    assert sum(map(len, passes.values())) == plan.sources[1].epoch_clips == 108


def test_groups_are_of_one_source_or_of_all():
    apart = mix_of([[100], [100]], [1, 1], by_group=True)
    assert all(len(task.parts) == 1 for task in tasks_of(apart))
    together = mix_of([[100], [100]], [1, 1])
    assert all([part.count for part in task.parts] == [2, 2] for task in tasks_of(together))


def test_a_step_holds_sources_by_their_weights():
    plan = mix_of([[400], [400], [400]], [5, 2, 1], k=4)
    for task_step, tasks in itertools.groupby(tasks_of(plan), key=lambda task: task.step):
        counts = collections.Counter(source for task in tasks for source, _, _ in by_source(task))
        assert abs(counts[0] - 10) <= 1, task_step
        assert abs(counts[1] - 4) <= 2
        assert abs(counts[2] - 2) <= 2


def test_what_was_drawn_follows_from_the_step():
    plan = mix_of([[100], [30], [45]], [4, 2, 1])
    drawn = collections.Counter()
    steps = 2 * plan.steps_per_epoch + 3
    tasks = tasks_of(plan, 0, steps * plan.groups_per_step)
    for step, group in itertools.groupby(tasks, key=lambda task: task.step):
        drawn.update(source for task in group for source, _, _ in by_source(task))
        assert plan.drawn(step + 1) == [drawn[number] for number in range(3)]


def test_a_stand_in_comes_from_the_same_source():
    plan = mix_of([[60], [60], [20]], [1, 1, 2])
    schedule = TrainSchedule(plan, seed=5, rank=0, world_size=1)
    order = order_of(plan, 5, 0)
    for task in tasks_of(plan, 6, 6):
        parts = order.parts(task.group)
        for place in range(4):
            part = parts[task.part_of(place)]
            window = {tuple(row) for row in order.rows(part).tolist()}
            for attempt in range(40):
                found = schedule.stand_in(task, place, attempt)
                if found is None:
                    continue
                assert source_of(plan, found.shard) == part.source
                assert found not in task.clips
                assert attempt >= ATTEMPTS_PER_SCOPE or found in window


def test_the_order_of_a_mix_never_changes():
    """Pins the draws: a change here breaks the resume of every existing run."""
    order = mix_of([[7, 30, 13], [20, 4]], [2, 1])
    groups = [[tuple(clip) for clip in task.clips] for task in tasks_of(order, 3 * order.groups_per_epoch)]
    assert groups[0] == [(1, 12), (1, 11), (2, 8), (3, 16)]
    assert groups[-1] == [(2, 3), (2, 0), (1, 13), (4, 0)]


@pytest.mark.parametrize(
    ("sets", "weights", "settings_", "message"),
    [
        ([[50], [3]], None, {"by_group": True}, r"data\.shards\[1\] = '3 clips': too few"),
        ([[50], [3]], [1, 1], {}, r"data\.shards\[1\] = '3 clips': too few: a group may take 4"),
        ([[500], [50]], [1000, 1], {"epoch_clips": 60}, r"data\.shards\[1\]\.weight = .*too small"),
        ([[3], [4]], None, {}, r"data\.global_batch = 8: all sets together have 7 clips"),
        ([[50], [50]], None, {"block_clips": 3}, r"data\.block_clips = 3"),
    ],
)
def test_a_mix_that_cannot_be_dealt_is_refused(sets, weights, settings_, message):
    with pytest.raises(ConfigError, match=message):
        mix_of(sets, weights, **settings_)


def test_ten_million_clips_in_three_sets_are_planned_within_the_memory_of_their_slices():
    sets = [[500] * 14_000, [500] * 5_900, [500] * 100]
    tracemalloc.start()
    plan = MixPlan.from_splits(
        [split_of(counts, clip_bytes=130_000) for counts in sets],
        weights=[6, 3, 1],
        by_group=False,
        epoch_clips=0,
        global_batch=512,
        group_size=8,
        lanes_per_group=8,
        slice_bytes=2 << 20,
        window_slices=4,
        block_clips=1,
    )
    schedule = TrainSchedule(plan, seed=0, rank=3, world_size=8)
    tasks = list(itertools.islice(schedule.tasks(10_000 * schedule.groups_per_step, 1, 2), 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(source.clips for source in plan.sources) == 10**7
    assert plan.sources[2].is_repeated
    assert all(len(set(task.clips)) == 8 for task in tasks)
    assert peak < 200e6
