"""Rows and warnings that come from what steps did: one process, a made-up engine, the real log files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pal_ds.config import load_config
from pal_ds.data.loader import LoaderStats
from pal_ds.distributed.ranks import Ranks
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry
from pal_ds.models import ObjectiveOutput
from pal_ds.planning.run_plan import plan_run
from pal_ds.training.label_probe import LabelProbe
from pal_ds.training.logging.run_log import RunLog
from pal_ds.training.logging.step_log import StepLog, StepRecord
from pal_ds.training.step_result import StepResult

ROOT = Path(__file__).resolve().parents[3]
ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


class QuietFeed:
    """A feed that has nothing to tell."""

    wait_seconds = 0.0

    def take_replaced(self) -> list[dict]:
        return []

    def stats(self) -> LoaderStats:
        return LoaderStats()


class CachedFeed(QuietFeed):
    """A feed that had three of four bytes from the cache."""

    def stats(self) -> LoaderStats:
        return LoaderStats(bytes=100, cached_bytes=300)


@pytest.fixture
def steplog(tmp_path: Path) -> StepLog:
    return made(tmp_path, QuietFeed())


def made(tmp_path: Path, feed: QuietFeed, *options: str) -> StepLog:
    shard = ShardEntry(name="train-000000.tar", clips=400, bytes=400_000, sha256="0" * 64)
    split = SplitEntry(clips=400, frames=40000, seconds=1600.0, bytes=400_000, shards=(shard,))
    manifest = Manifest(recipe={}, splits={"train": split}, labels=None)
    words = [f"run.dir={tmp_path}", "data.shards=/s", "log.tensorboard=false", *options]
    config = load_config(ROOT / "configs" / "demo.yaml", words)
    engine = SimpleNamespace(objective=SimpleNamespace(queue_fill=0.5), scaler=None)
    runlog = RunLog(str(tmp_path), config.log, step=0)
    plan = plan_run(config, (manifest,), 1)
    return StepLog(config, ALONE, plan, engine, feed, runlog=runlog, step=0)


def test_what_came_from_the_cache_is_told_where_there_is_one(tmp_path: Path) -> None:
    cache = ("data.cache_dir=/nvme", "data.cache_bytes=1_000")
    for folder, options in (("with", cache), ("without", ())):
        (tmp_path / folder).mkdir()
        made(tmp_path / folder, CachedFeed(), *options).step(record(1, loss=1.0, feature_std=0.1))
    rows = [json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("with", "without")]
    assert (rows[0]["loader_cached_bytes"], rows[0]["loader_cache_share"]) == (300, 0.75)
    assert not any("cache" in name for name in rows[1])


def record(step: int, *, loss: float, feature_std: float) -> StepRecord:
    output = ObjectiveOutput(
        loss=torch.tensor(loss), metrics={"feature_std": torch.tensor(feature_std), "top1": torch.tensor(0.5)}
    )
    return StepRecord(
        step=step,
        epoch=0,
        rate=0.1,
        result=StepResult(True, False, False, 1.0),
        outputs=[output],
        digests=[torch.zeros(2, 8, dtype=torch.uint8)],
    )


def events(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_falling_loss_without_spread_is_told_now_and_then(steplog: StepLog, tmp_path: Path) -> None:
    for step in range(1, 61):
        steplog.step(record(step, loss=5.0 - step / 20, feature_std=1e-4))
    assert [event["step"] for event in events(tmp_path) if event["event"] == "collapse"] == [20, 40, 60]


@pytest.mark.parametrize(("slope", "feature_std"), [(-1, 0.05), (1, 1e-4)])
def test_neither_alone_is_collapse(steplog: StepLog, tmp_path: Path, slope: int, feature_std: float) -> None:
    for step in range(1, 61):
        steplog.step(record(step, loss=5.0 + slope * step / 20, feature_std=feature_std))
    assert events(tmp_path) == []


def test_a_row_has_what_the_contract_lists(steplog: StepLog, tmp_path: Path) -> None:
    steplog.add_time(0.5)
    steplog.step(record(1, loss=2.0, feature_std=0.1))
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["videos_per_second"] == pytest.approx(16 / 0.5)
    assert row["memory_mb"] > 50
    names = {"step", "epoch", "loss", "lr", "batch_hash", "data_wait", "grad_norm", "queue_fill", "top1"}
    assert names <= row.keys()
    assert "mfu" not in row  # a CPU's peak is not known


def test_the_probe_asks_labels_of_the_features_that_validation_made() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    features = torch.nn.functional.one_hot(labels, 3).float() + 0.01 * torch.rand(6, 3)
    probe = LabelProbe(ALONE)
    assert probe.result() == {}
    probe.add(ObjectiveOutput(loss=torch.zeros(()), features=features), None)
    probe.add(ObjectiveOutput(loss=torch.zeros(())), labels)
    assert probe.result() == {}
    probe.add(ObjectiveOutput(loss=torch.zeros(()), features=features), labels)
    assert probe.result() == {"knn_accuracy": 1.0, "retrieval_r1": 1.0, "knn_samples": 6.0}
