"""Controls through the real trainer: what can't learn is told so, and a figure depends on nothing but the network."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.viz.learning_verdict import Verdict
from pal_ds.viz.run_facts import collect_run
from tests.support.full import rest
from tests.support.launching import COLOURS, Launcher, make_set, rows, words
from tests.support.shared_folder import shared_folder

pytestmark = pytest.mark.slow

STEPS = 40
#: How far a figure of a network that learns nothing may stray from step 0: BatchNorm's statistics come from another
#: batch each time.
BAND_LOSS, BAND_TOP1 = 0.5, 0.2

SMALL = [
    "data.global_batch=16",
    "data.workers=0",
    "queue.size=64",
    f"run.max_steps={STEPS}",
    "validation.every_steps=20",
]
SMALL += ["checkpoint.every_steps=1000", "model.width=0.125", "log.every_steps=1", "schedule.warmup_steps=4"]
BATCH = ["objective.negatives=batch", "queue.mask_unfilled=false", "model.momentum=0"]
QUEUE = ["model.momentum=0.9"]
RSPNET = ["objective.name=rspnet", "synthesis.paste=none", "synthesis.region_min=4", "synthesis.region_max=4"]
RSPNET += ["synthesis.stride_max=1", "model.norm=clip_and_region", "model.final_relu=true"]
OBJECTIVES = {
    "pal": BATCH,
    "pal-queue": QUEUE,
    "moco": ["objective.name=moco", *BATCH],
    "rspnet": [*RSPNET, *BATCH],
    "videomoco": ["objective.name=videomoco", *QUEUE],
}


@pytest.fixture(scope="session")
def control_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 60 training and 12 validation clips."""
    return shared_folder(tmp_path_factory, "control-set", partial(make_set, clips=72)) / "set"


def train(
    launcher: Launcher, control_set: Path, run: Path, *more: str, script: str = "launch/pretrain.py"
) -> Verdict:
    done = launcher.run_ranks(1, words(control_set, run, *SMALL, *more), script=script)
    assert done.returncode == 0, done.stderr[-2000:]
    verdict = collect_run(str(run)).verdict
    assert verdict is not None
    return verdict


def assert_flat(run: Path) -> None:
    found = [row for row in rows(run) if "val_loss" in row]
    assert [row["step"] for row in found] == [0, 20, 40]
    for row in found[1:]:
        assert abs(row["val_loss"] - found[0]["val_loss"]) < BAND_LOSS, row
        assert abs(row["val_top1"] - found[0]["val_top1"]) < BAND_TOP1, row


@pytest.mark.parametrize("name", ["pal", "rspnet", *rest(sorted(OBJECTIVES.keys() - {"pal", "rspnet"}))])
def test_a_run_without_a_learning_rate_is_told_that_it_learned_nothing(
    name: str, launcher: Launcher, control_set: Path, tmp_path: Path
) -> None:
    verdict = train(launcher, control_set, tmp_path / "run", "optimizer.lr=0", *OBJECTIVES[name])
    assert verdict.learned is False
    assert not any(finding.better for finding in verdict.findings), verdict.findings
    assert_flat(tmp_path / "run")


def test_a_run_that_learns_is_recognised(
    launcher: Launcher, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    # Nothing hides the colours that tell these clips apart, so some steps are enough, for clips never seen too.
    colourful = make_set(tmp_path_factory.mktemp("colourful"), clips=120, one_in=2, source=COLOURS)
    easy = ["augment.hue=0", "augment.grey_p=0", "augment.saturation=0", "augment.blur_p=0"]
    easy += ["synthesis.paste=none", "synthesis.region_min=3", "optimizer.lr=0.003"]
    # Keys hang on where videos lie, and so do the draws: three times the steps that a usual draw needs.
    verdict = train(launcher, colourful, tmp_path / "run", *BATCH, *easy, "run.max_steps=120")
    assert verdict.learned is True, verdict
    assert verdict.findings[0].better
    assert not verdict.warnings


def test_a_run_keeps_its_untrained_backbone(launcher: Launcher, control_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    verdict = train(launcher, control_set, run, *BATCH, "optimizer.lr=0.003", "run.max_steps=8")
    assert verdict.findings[0].untrained is not None
    _, before = load_backbone(f"{run}/untrained.safetensors")
    _, after = load_backbone(str(run))
    assert before.digest != after.digest
    assert before.feature_dim == after.feature_dim


def test_pairs_of_different_videos_can_not_be_learned(
    launcher: Launcher, control_set: Path, tmp_path: Path
) -> None:
    script = "tests/support/pretrain_shuffled.py"
    verdict = train(launcher, control_set, tmp_path / "run", *BATCH, "optimizer.lr=0.003", script=script)
    assert verdict.learned is False


def test_validation_is_equal_on_any_number_of_ranks_and_for_any_queue(
    launcher: Launcher, control_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = [*QUEUE, "optimizer.lr=0.003", "run.max_steps=8"]
    train(launcher, control_set, run, *settings)
    arguments = [str(run), *words(control_set, run, *SMALL, *settings)[1:]]
    found = []
    for ranks, extra in ((1, {}), (2, {}), (1, {"PAL_TEST_OTHER_QUEUE": "1"}), *rest([(4, {})])):
        done = launcher.run_ranks(
            ranks, arguments, script="tests/support/validate_only.py", PAL_TEST_STEP="8", **extra
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        found.append(json.loads(line.removeprefix("RESULT ")))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, value in found[0].items():
            assert other[name] == pytest.approx(value, abs=1e-6, rel=1e-6), name
    assert found[0]["samples"] == 12
    assert found[0]["negatives"] == 11
