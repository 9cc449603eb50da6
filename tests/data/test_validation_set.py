import pytest
from tests.support.loading import AUGMENT, SYNTHESIS, group_print

from pal_ds.config.data import DataConfig
from pal_ds.data.synthesis.render import render
from pal_ds.data.validation_set import ValidationSet
from pal_ds.formats import shardset


def validation(url, *, rank=0, world_size=1, workers=0, group_size=8, **settings):
    data = DataConfig(
        global_batch=group_size * 8, group_size=group_size, workers=workers, start_method="fork"
    )
    return ValidationSet(
        url,
        data=data,
        synthesis=SYNTHESIS,
        augment=AUGMENT,
        seed=4,
        rank=rank,
        world_size=world_size,
        **settings,
    )


def prints(parts):
    return {group.number: group_print(group) for part in parts for micro in part for group in micro.groups}


def test_every_clip_is_validated_once_with_the_same_draws_in_every_pass(shard_url):
    part = validation(shard_url)
    keys = [key for micro in part for group in micro.keys for key in group]
    index = shardset.load_index(shard_url, "val-000000.tar")
    assert sorted(keys) == sorted(entry.key for entry in index.samples)
    assert [len(micro) for micro in part] == [8, 3]
    assert prints([part]) == prints([part])


@pytest.mark.parametrize(("world_size", "workers"), [(2, 0), (1, 2), (3, 1)])
def test_groups_do_not_depend_on_ranks_and_workers(shard_url, world_size, workers):
    parts = [
        validation(shard_url, rank=rank, world_size=world_size, workers=workers) for rank in range(world_size)
    ]
    assert sum(len(part) for part in parts) == 2
    assert prints(parts) == prints([validation(shard_url)])


def test_the_last_group_renders_though_it_is_smaller(shard_url):
    *_, last = (micro.clone() for micro in validation(shard_url))
    assert render(last, SYNTHESIS, AUGMENT)["query_bjcthw"].shape == (3, 8, 3, 8, 24, 24)


def test_a_pass_can_be_cut_short(shard_url):
    part = validation(shard_url, max_groups=1, workers=1)
    assert [len(micro) for micro in part] == [8]
    for _ in part:
        break


def test_a_set_without_val_is_told(shard_url):
    with pytest.raises(shardset.ShardSetError, match="no split 'holdout'; it has train, val"):
        validation(shard_url, split="holdout")
