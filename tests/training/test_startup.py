"""What a start finds out before ranks share anything, for sets that have grown and for plain ones."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from pal_ds.config import Config, ConfigError, load_config
from pal_ds.formats import shardset
from pal_ds.formats.clip_selection import Where, describe_where, forget_conditions, know_conditions
from pal_ds.formats.shardset import Manifest, ShardSetError
from pal_ds.training import startup
from pal_ds.training.set_generations import look_again
from tests.support.epoch_plans import split_of


def config_of(folder: Path, *words: str, generation: int = 1) -> Config:
    manifest = Manifest(recipe={}, splits={"train": split_of([100])}, generation=generation)
    (folder / "manifest.json").write_bytes(manifest.to_json())
    plain = [f"data.shards={folder}", f"run.dir={folder}/run", "data.global_batch=32", "data.workers=0"]
    return load_config("configs/demo.yaml", [*plain, *words])


def test_a_world_size_that_does_not_fit_is_refused_before_any_index_is_read(tmp_path: Path) -> None:
    where = f"data.shards=[{{url: {tmp_path}, where: {{min_side: 10}}}}]"
    config = config_of(tmp_path, where, "validation.every_steps=0")
    with pytest.raises(ConfigError, match="world size"):
        startup.look(config, 7)


def test_a_run_may_fit_the_generation_it_began_with(tmp_path: Path) -> None:
    assert startup.look(config_of(tmp_path, generation=2), 7)[1] is None
    with pytest.raises(ConfigError, match="world size"):
        startup.look(config_of(tmp_path, generation=1), 7)


def test_a_fresh_start_needs_the_generation_of_rank_0_and_a_resume_tells_that_it_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path)
    manifests = (shardset.load_manifest(str(tmp_path)),)
    with pytest.raises(ShardSetError):
        look_again(config, manifests, ["0" * 64], resumed=False)
    with caplog.at_level(logging.WARNING):
        assert look_again(config, manifests, ["0" * 64], resumed=True) == manifests
    assert caplog.records


def test_a_file_of_keys_is_read_once_and_not_where_its_content_was_told(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a\n")
    where = Where(keys=str(keys))
    forget_conditions()
    first = describe_where(where)
    keys.write_text("b\n")
    assert describe_where(where) == first
    forget_conditions()
    assert describe_where(where) != first
    elsewhere = dataclasses.replace(where, keys=str(tmp_path / "not here"))
    know_conditions(elsewhere, first)
    assert describe_where(elsewhere) == first
    forget_conditions()
