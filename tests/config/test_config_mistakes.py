"""Mistakes in a run's settings: one line with field, value and fix, status 2, and nothing started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch.distributed as dist

from pal_ds.cli.pretrain import main
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

#: (the mistaken settings, the field that is named, the value that is shown, a part of the fix)
SETTINGS: list[tuple[list[str], str, str, str]] = [
    (["run.dir="], "run.dir", "''", "give the run a folder"),
    (["run.seed=-1"], "run.seed", "-1", "from 0 up"),
    (["run.epochs=0"], "run.epochs", "0", "at least 1"),
    (["run.epochs=1.5"], "run.epochs", "1.5", "whole number"),
    (["run.max_steps=0"], "run.max_steps", "0", "leave it out"),
    (["run.step=3"], "run.step", "3", "unknown key"),
    (["optimiser.lr=1e-3"], "optimiser", "{'lr': '1e-3'}", "did you mean optimizer?"),
    (["model.temprature=0.1"], "model.temprature", "0.1", "did you mean model.temperature?"),
    (["data=4"], "data", "4", "is a section"),
    (["run.dir"], "command line", "'run.dir'", "section.key=value"),
    (["data.workers=[1"], "data.workers", "'[1'", "not readable as YAML"),
    (["data.workers=-1"], "data.workers", "-1", "0 or more"),
    (["data.workers=two"], "data.workers", "'two'", "whole number"),
    (["data.global_batch=500"], "data.global_batch", "500", "multiple of data.group_size = 8"),
    (["data.group_size=2"], "data.group_size", "2", "at least 3"),
    (["data.accumulation=3"], "data.accumulation", "3", "divisor of global_batch / group_size = 2"),
    (["data.resize=gpu"], "data.resize", "'gpu'", "device or worker"),
    (["synthesis.region_max=9"], "synthesis.region_min, region_max", "(1, 9)", "clips = 6"),
    (["synthesis.paste=none"], "synthesis.paste", "'none'", "set region_min = region_max"),
    (["synthesis.beta_min=1.2"], "synthesis.beta_min, beta_max", "(1.2, 1.0)", "beta_max <= 1"),
    (["augment.flip_p=2"], "augment.flip_p", "2.0", "probability"),
    (["augment.mean=[0.5]"], "augment.mean", "[0.5]", "three numbers"),
    (["objective.name=byol"], "objective.name", "'byol'", "pal, moco, supervised"),
    (["objective.name=moco", "objective.dense_weight=1"], "objective.dense_weight", "1.0", "remove it"),
    (["objective.dropout=0.1"], "objective.dropout", "0.1", "no effect with objective.name=pal"),
    (["model.backbone=c3d"], "model.backbone", "'c3d'", "i3d, resnet3d50"),
    (["model.symmetric=1"], "model.symmetric", "1", "true or false"),
    (["model.backbone=s3d", "model.same_padding=false"], "model.same_padding", "False", "remove it"),
    (["queue.size=0"], "queue.size", "0", "at least 1"),
    (["objective.negatives=batch"], "queue.mask_unfilled", "True", "remove it"),
    (["optimizer.lr=-1"], "optimizer.lr", "-1.0", "e.g. 1e-4"),
    (["optimizer.lr=fast"], "optimizer.lr", "'fast'", "expected a finite number"),
    (["optimizer.lr=.inf"], "optimizer.lr", "inf", "expected a finite number"),
    (["data.workers=.nan"], "data.workers", "nan", "expected a whole number"),
    (["data.shards="], "data.shards", "''", "pal-shard build"),
    (["schedule.name=linear"], "schedule.name", "'linear'", "plateau, step, cosine, constant"),
    (["schedule.name=step"], "schedule.milestones", "()", "needs milestones"),
    (["schedule.milestones=[9, 3]"], "schedule.milestones", "(9, 3)", "ascending"),
    (
        ["schedule.name=plateau", "validation.every_steps=0"],
        "schedule.name",
        "'plateau'",
        "needs validation.every_epochs",
    ),
    (
        ["validation.every_steps=0", "validation.probe_every=1"],
        "validation.probe_every",
        "1",
        "needs validation.every_epochs",
    ),
    (["validation.probe_every=1"], "validation.probe_every", "1", "--with-labels"),
    (["checkpoint.keep_last=0"], "checkpoint.keep_last", "0", "at least 1"),
    (["log.every_steps=0"], "log.every_steps", "0", "at least 1"),
    (["safety.watchdog_seconds=0"], "safety.watchdog_seconds", "0.0", "more than 0"),
    (["precision=fp8"], "precision", "'fp8'", "fp32, bf16, fp16"),
    (["zero_stage=3"], "zero_stage", "3", "use 0, 1 or 2"),
    (["precision=fp16", "zero_stage=1", "optimizer.clip=1"], "optimizer.clip", "1.0", "zero_stage=0"),
]


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back signal handlers and environment; check that nothing was started."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "DS_ACCELERATOR", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    children = len(psutil.Process().children(recursive=True))
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert not dist.is_initialized()
    assert len(psutil.Process().children(recursive=True)) == children


@pytest.fixture
def train_only_set(tmp_path: Path) -> Path:
    """The manifest of a set of 40 training clips, without a val split."""
    shard = ShardEntry(name="train-000000.tar", clips=40, bytes=40_000, sha256="0" * 64)
    split = SplitEntry(clips=40, frames=4000, seconds=160.0, bytes=40_000, shards=(shard,))
    manifest = Manifest(recipe={}, splits={"train": split}, labels=None)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / shardset.MANIFEST_NAME).write_bytes(manifest.to_json())
    return folder


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command in this process; return its only line."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize(
    ("settings", "field", "value", "fix"), SETTINGS, ids=[" ".join(row[0]) for row in SETTINGS]
)
def test_a_mistaken_setting_is_one_line_and_nothing_starts(
    settings: list[str],
    field: str,
    value: str,
    fix: str,
    train_only_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    places = [f"data.shards={train_only_set}", f"run.dir={run}"]
    line = refused(["--config", str(CONFIGS / "demo.yaml"), *places, *settings], capsys)
    assert line.startswith(f"error: {field} = {value}: ")
    assert fix in line.removeprefix(f"error: {field} = {value}: ")
    assert not run.exists()


@pytest.mark.parametrize(
    ("text", "field", "fix"),
    [
        ("- a list", "--config", "expected a mapping of sections"),
        ("run: [unclosed", "--config", "not readable as YAML"),
        ("base: missing.yaml", "base", "no such file"),
        ("base: [a, b]", "base", "give one path"),
        ("base: mistaken.yaml", "base", "circular"),
        ("runs: {seed: 1}", "runs", "did you mean run?"),
    ],
)
def test_a_mistaken_file_is_one_line(
    text: str, field: str, fix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mistaken.yaml"
    path.write_text(text)
    line = refused(["--config", str(path), "data.shards=/s", f"run.dir={tmp_path / 'run'}"], capsys)
    assert line.startswith(f"error: {field} = ")
    assert fix in line
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["--config", str(tmp_path / "none.yaml")], capsys)
    assert "none.yaml" in line
    assert "no such file" in line


def test_a_world_size_that_does_not_divide_lists_those_that_do(
    train_only_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    words = ["--config", str(CONFIGS / "demo.yaml"), f"data.shards={train_only_set}"]
    line = refused([*words, f"run.dir={tmp_path / 'run'}", "data.global_batch=32"], capsys)
    assert line.startswith("error: world size = 3: ")
    assert "use one of [1, 2, 4]" in line
    assert not (tmp_path / "run").exists()


def test_a_plateau_without_a_val_split_names_the_sharders_option(
    train_only_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"data.shards={train_only_set}", f"run.dir={tmp_path / 'run'}", "data.global_batch=32"]
    line = refused(["--config", str(CONFIGS / "pretrain" / "pal_i3d_k400.yaml"), *places], capsys)
    assert line.startswith("error: schedule.name = 'plateau': ")
    assert "--val-fraction" in line
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_split_is_refused(
    train_only_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"data.shards={train_only_set}", f"run.dir={tmp_path / 'run'}", "data.global_batch=48"]
    line = refused(["--config", str(CONFIGS / "demo.yaml"), *places], capsys)
    assert line.startswith("error: data.global_batch = 48: ")
    assert "at most 40" in line


def test_a_shard_set_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [f"data.shards={tmp_path / 'nowhere'}", f"run.dir={tmp_path / 'run'}"]
    line = refused(["--config", str(CONFIGS / "demo.yaml"), *places], capsys)
    assert "nowhere" in line
    assert not (tmp_path / "run").exists()


def test_a_full_folder_is_not_restarted_into(
    train_only_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "STATUS.json").write_text("{}")
    places = [f"data.shards={train_only_set}", f"run.dir={run}"]
    line = refused(["--config", str(CONFIGS / "demo.yaml"), "--restart", *places], capsys)
    assert line.startswith(f"error: run.dir = '{run}': ")
    assert "--overwrite" in line
    assert [path.name for path in run.iterdir()] == ["STATUS.json"]
