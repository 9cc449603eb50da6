"""``data.shards`` as a URL and as a list of sets."""

from __future__ import annotations

import pytest

from pal_ds.config import Config, ConfigError, config_from_tree, load_config, to_tree, to_yaml
from pal_ds.config.sources import ShardSource, Where

MIX = "data.shards=[{url: s3://a, weight: 2, where: {min_seconds: 4, labels: [run]}}, {url: /b, weight: 0.5}]"


def config(*words: str) -> Config:
    return load_config("configs/demo.yaml", ["run.dir=/r", *words])


def test_a_url_stays_a_url() -> None:
    found = config("data.shards=s3://bucket/set")
    assert found.data.shards == "s3://bucket/set"
    assert found.data.sources == (ShardSource(url="s3://bucket/set"),)
    assert to_tree(found)["data"]["shards"] == "s3://bucket/set"


def test_a_list_is_given_in_one_word_and_survives_its_checkpoint(tmp_path) -> None:
    found = config(MIX)
    assert found.data.sources == (
        ShardSource(url="s3://a", weight=2.0, where=Where(min_seconds=4, labels=("run",))),
        ShardSource(url="/b", weight=0.5),
    )
    assert config_from_tree(to_tree(found)) == found
    (tmp_path / "again.yaml").write_text(to_yaml(found))
    assert load_config(tmp_path / "again.yaml") == found


def test_urls_alone_are_sets_that_count_by_their_clips() -> None:
    assert config("data.shards=[/a, /b]").data.sources == (ShardSource(url="/a"), ShardSource(url="/b"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["data.shards=[{url: /a, wieght: 2}]"],
            r"data.shards\[0\].wieght = 2: .*did you mean data.shards\[0\].weight",
        ),
        (["data.shards={url: /a}"], "data.shards = .*put it in a list"),
        (["data.shards=[]"], "data.shards = .*give the URL"),
        (["data.shards=[{weight: 1}]"], "data.shards: url = ''"),
        (["data.shards=[{url: /a, weight: 0}]"], "data.shards: weight = 0.0: use a number above 0"),
        (["data.shards=[{url: /a, weight: -1}]"], "data.shards: weight = -1.0"),
        (["data.shards=[3]"], r"data.shards\[0\] = 3: give its keys: url, split"),
        (["data.shards=[{url: /a, weight: 1}, /b]"], "give every set a weight, or none"),
        (["data.shards=[/a, /a/]"], "is in the list twice"),
        (["data.shards=[{url: /a, where: {min_side: 1.5}}]"], r"data.shards\[0\].where.min_side = 1.5"),
        (["data.shards=[{url: /a, where: {source: ['']}}]"], "where.source = .*a pattern is empty"),
        (["data.shards=[/a, /b]", "data.mix=both"], "data.mix = 'both'"),
        (["data.shards=/a", "data.mix=by_group"], "data.mix = 'by_group': has no effect with one shard set"),
        (["data.shards=/a", "data.epoch_clips=1"], "data.epoch_clips = 1: use at least data.global_batch"),
    ],
)
def test_what_can_not_be_run_is_told(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(*words)
