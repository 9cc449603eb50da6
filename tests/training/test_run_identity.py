"""What a resume may change."""

from __future__ import annotations

import dataclasses

import pytest

from pal_ds.config import Config, config_from_tree, load_config, to_tree
from pal_ds.training.run_identity import IdentityError, check_identity, identity_of, warn_changes

BASE = ["data.shards=/s", "run.dir=/r"]


def config(*more: str) -> Config:
    return load_config("configs/demo.yaml", [*BASE, *more])


@pytest.mark.parametrize(
    "change",
    [
        "run.seed=9",
        "data.global_batch=24",
        "data.group_size=4",
        "data.accumulation=2",
        "queue.size=100",
        "model.width=0.5",
        "objective.dense_weight=0.5",
        "synthesis.beta_min=0.5",
    ],
)
def test_a_changed_identity_is_refused_by_name(change: str) -> None:
    with pytest.raises(IdentityError, match=change.split("=")[0]):
        check_identity(identity_of(config(), "m"), identity_of(config(change), "m"))


@pytest.mark.parametrize(
    "change",
    [
        "run.epochs=3",
        "run.max_steps=3",
        "data.workers=7",
        "zero_stage=1",
        "precision=bf16",
        "log.every_steps=1",
        "checkpoint.every_steps=1",
        "model.channels_last=false",
        "data.prefetch=3",
    ],
)
def test_the_rest_is_free(change: str) -> None:
    check_identity(identity_of(config(), "m"), identity_of(config(change), "m"))


@pytest.mark.parametrize("name", ["run", "data", "synthesis", "augment", "objective", "model", "queue"])
def test_every_option_that_shapes_a_run_declares_whether_it_is_fixed(name: str) -> None:
    section = getattr(config(), name)
    by_default = getattr(section, "FIXED", None)
    silent = [each.name for each in dataclasses.fields(section) if each.metadata["fixed"] is None]
    assert by_default is not None or not silent


def test_another_shard_set_is_refused() -> None:
    with pytest.raises(IdentityError, match=r"data\.shards"):
        check_identity(identity_of(config(), "m"), identity_of(config(), "n"))


def test_changes_worth_knowing_are_told() -> None:
    changes = warn_changes(to_tree(config()), config("precision=bf16", "optimizer.lr=0.5"))
    assert len(changes) == 2


def test_a_config_survives_its_checkpoint() -> None:
    assert config_from_tree(to_tree(config())) == config()


def test_a_run_begun_before_an_option_existed_has_its_default() -> None:
    saved = identity_of(config(), "m")
    del saved["objective"]["same_recording_negatives"]
    del saved["data"]["block_clips"]
    check_identity(saved, identity_of(config(), "m"))
    with pytest.raises(IdentityError, match=r"same_recording_negatives = False: this run began with True"):
        check_identity(saved, identity_of(config("objective.same_recording_negatives=false"), "m"))
    with pytest.raises(IdentityError, match=r"data.block_clips = 2: this run began with 1"):
        check_identity(saved, identity_of(config("data.block_clips=2"), "m"))
