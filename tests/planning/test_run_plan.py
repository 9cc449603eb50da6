"""What a dry run says of several shard sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pal_ds.config import ConfigError, load_config
from pal_ds.data.sources import load_manifests
from pal_ds.formats.shardset import Manifest
from pal_ds.planning.dry_run import dry_run
from pal_ds.planning.run_plan import plan_run
from tests.support.epoch_plans import split_of
from tests.support.tiny_shards import encode, sample, write_set


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A set of 4,000 clips that is a manifest alone, and a real one of 40 clips."""
    folder = tmp_path_factory.mktemp("sets")
    (folder / "large").mkdir()
    manifest = Manifest(
        recipe={}, splits={"train": split_of([500] * 8), "val": split_of([40])}, labels=("a", "b")
    )
    (folder / "large" / "manifest.json").write_bytes(manifest.to_json())
    video = encode(1, 40)
    clips = [sample(f"{number}.mp4", video, 20 + number, label="a") for number in range(40)]
    write_set(folder / "small", {"train": [clips]}, labels=("a", "c"))
    return folder / "large", folder / "small"


def run_of(sets: tuple[Path, Path], *words: str, where: str = "{}", base: str = "configs/demo.yaml"):
    mix = f"data.shards=[{{url: {sets[0]}, weight: 3}}, {{url: {sets[1]}, weight: 1, where: {where}}}]"
    words = (mix, "run.dir=/r", "data.global_batch=32", "data.group_size=8", "data.workers=2", *words)
    return load_config(base, words)


def test_the_dry_run_tells_shares_passes_and_validation(sets, capsys) -> None:
    config = run_of(sets, where="{min_frames: 30}")
    assert dry_run(config, 2, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    # Ten clips are too short; (4,000 + 30) // 32 steps.
    assert found["steps per epoch"] == 125
    assert found["shard set 0"] == f"{sets[0]}: 4000 clips; 3000 an epoch: 75.0% of all, 0.75 passes"
    assert found["shard set 1"] == f"{sets[1]}: 30 clips of 40; 1000 an epoch: 25.0% of all, 33.33 passes"
    assert found["validation"] == "on, 40 clips of shard sets 0"
    assert found["range reads per step, expected"] > 0


def test_a_part_of_one_set_is_told_and_a_whole_one_is_not(sets, capsys) -> None:
    words = ["run.dir=/r", "data.global_batch=16", "data.group_size=8", "schedule.name=constant"]
    for where, told in (("{}", False), ("{min_frames: 30}", True)):
        config = load_config(
            "configs/demo.yaml", [f"data.shards=[{{url: {sets[1]}, where: {where}}}]", *words]
        )
        assert dry_run(config, 1, as_json=True) == 0
        found = json.loads(capsys.readouterr().out)
        assert ("shard set 0" in found) == told
        assert found["clips"] == (30 if told else 40)


def test_conditions_that_choose_nothing_are_refused(sets) -> None:
    config = run_of(sets, where="{min_seconds: 90}")
    with pytest.raises(ConfigError, match=r"data\.shards\[1\]\.where = .*chooses none of the 40 clips"):
        plan_run(config, load_manifests(config.data.sources), 1)


def test_sets_must_agree_on_labels_where_they_are_used(sets) -> None:
    config = run_of(sets, base="configs/pretrain/tac_i3d_k400.yaml")
    with pytest.raises(
        ConfigError, match=r"objective\.name = 'supervised': the shard sets have different labels"
    ):
        plan_run(config, load_manifests(config.data.sources), 1)
    config = run_of(sets, "validation.probe_every=1")
    with pytest.raises(
        ConfigError, match=r"validation\.probe_every = 1: the shard sets have different labels"
    ):
        plan_run(config, load_manifests(config.data.sources), 1)
    assert plan_run(run_of(sets), load_manifests(config.data.sources), 1).labels is None


def test_a_missing_split_is_named(sets) -> None:
    config = load_config(
        "configs/demo.yaml", [f"data.shards=[{{url: {sets[1]}, split: extra}}]", "run.dir=/r"]
    )
    with pytest.raises(ConfigError, match=r"data\.shards = .*no 'extra' split \(it has train\)"):
        plan_run(config, load_manifests(config.data.sources), 1)


def test_two_validation_clips_are_too_few(tmp_path: Path) -> None:
    splits = {"train": split_of([500]), "val": split_of([2])}
    (tmp_path / "manifest.json").write_bytes(Manifest(recipe={}, splits=splits).to_json())
    words = [f"data.shards={tmp_path}", "run.dir=/r", "data.global_batch=32", "data.workers=2"]
    config = load_config("configs/demo.yaml", words)
    manifests = load_manifests(config.data.sources)
    with pytest.raises(ConfigError, match=r"2 validation clips.*a group needs 3"):
        plan_run(config, manifests, 1)
    off = load_config("configs/demo.yaml", [*words, "validation.every_steps=0"])
    assert not plan_run(off, manifests, 1).has_validation
