"""Plans of epochs out of shards' clip counts."""

from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.mix_plan import MixPlan
from pal_ds.formats.shardset import ShardEntry, SplitEntry


def split_of(counts, clip_bytes=1000):
    shards = tuple(
        ShardEntry(name=f"train-{number:06d}.tar", clips=clips, bytes=clips * clip_bytes, sha256="")
        for number, clips in enumerate(counts)
    )
    return SplitEntry(
        clips=sum(counts), frames=0, seconds=0.0, bytes=sum(shard.bytes for shard in shards), shards=shards
    )


def plan_of(counts, *, group_size=4, k=2, lanes=4, slice_clips=5, window_slices=3, block_clips=1):
    return EpochPlan.from_manifest(
        split_of(counts),
        global_batch=group_size * k,
        group_size=group_size,
        lanes_per_group=lanes,
        slice_bytes=slice_clips * 1000,
        window_slices=window_slices,
        block_clips=block_clips,
    )


def epoch_groups(order):
    plan = order.plan
    windows = {}
    for group in range(plan.groups_per_epoch):
        place = order.place(group)
        if place[:2] not in windows:
            windows[place[:2]] = order.window(place.lane, place.window)
        rows = windows[place[:2]][place.offset : place.offset + plan.group_size]
        yield place, [tuple(map(int, row)) for row in rows]


def mix_of(
    sets,
    weights=None,
    *,
    by_group=False,
    epoch_clips=0,
    group_size=4,
    k=2,
    lanes=4,
    slice_clips=5,
    window_slices=3,
    block_clips=1,
):
    """Plan a mix of sets, each given by the clips of its shards."""
    return MixPlan.from_splits(
        [split_of(counts) for counts in sets],
        weights=weights,
        by_group=by_group,
        epoch_clips=epoch_clips,
        global_batch=group_size * k,
        group_size=group_size,
        lanes_per_group=lanes,
        slice_bytes=slice_clips * 1000,
        window_slices=window_slices,
        block_clips=block_clips,
    )


def source_of(plan: MixPlan, shard: int) -> int:
    """Return the number of the source that a shard belongs to."""
    return max(number for number, each in enumerate(plan.sources) if each.first_shard <= shard)
