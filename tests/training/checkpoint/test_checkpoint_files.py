"""Checkpoints as files: commit, damage, retention; on disk and on a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pal_ds import storage
from pal_ds.config import CheckpointConfig
from pal_ds.formats import checkpoint
from pal_ds.formats.checkpoint import CheckpointError, Snapshot
from pal_ds.storage import RetryPolicy
from pal_ds.training.checkpoint.background_saver import Saver

FAST = RetryPolicy(budget_seconds=0.2, first_delay=0.01)


def snapshot(step: int) -> Snapshot:
    return Snapshot(
        step,
        {"w": torch.full((3, 2), float(step)), "queue.pointer": torch.tensor(step)},
        {"adam_step": torch.tensor([float(step)], dtype=torch.float64)},
        {"epoch": 1, "schedule": {"best": None}},
    )


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    return storage.join(request.getfixturevalue("s3_env").bucket("checkpoint-test"), tmp_path.name)


def test_round_trip_and_saving_again(run: str) -> None:
    for _ in range(2):
        checkpoint.save(run, snapshot(7))
    loaded = checkpoint.load(run, 7)
    assert torch.equal(loaded.model["w"], torch.full((3, 2), 7.0))
    assert loaded.model["queue.pointer"].dtype == torch.int64
    assert loaded.optimizer["adam_step"].item() == 7.0
    assert loaded.state["schedule"] == {"best": None}
    assert checkpoint.committed_steps(run) == [7]


def test_without_marker_it_does_not_exist(run: str) -> None:
    checkpoint.save(run, snapshot(1))
    checkpoint.save(run, snapshot(2))
    storage.remove(storage.join(run, "checkpoints", "step-00000002", "COMMITTED"))
    assert checkpoint.committed_steps(run) == [1]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("at", range(4))
def test_a_save_cut_at_any_file_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    run = str(tmp_path)
    checkpoint.save(run, snapshot(1))
    written = 0
    honest = storage.write_bytes

    def dying(url: str, data: bytes, **options) -> None:
        nonlocal written
        if written == at:
            raise KeyboardInterrupt
        written += 1
        honest(url, data, **options)

    monkeypatch.setattr(storage, "write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(run, snapshot(2))
    monkeypatch.undo()
    assert checkpoint.committed_steps(run) == [1]
    checkpoint.save(run, snapshot(2))
    assert checkpoint.committed_steps(run) == [1, 2]
    # Overwriting a committed step starts by taking its marker away.
    target = tmp_path / "checkpoints" / "step-00000002" / name
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(run, 2)


def test_another_format_is_refused(tmp_path: Path) -> None:
    checkpoint.save(str(tmp_path), snapshot(1))
    folder = tmp_path / "checkpoints" / "step-00000001"
    state = json.loads((folder / "state.json").read_text()) | {"format": "pal-checkpoint/9"}
    storage.write_bytes(str(folder / "state.json"), json.dumps(state).encode())
    with pytest.raises(CheckpointError):
        checkpoint.load(str(tmp_path), 1)


def test_retention_keeps_the_newest_and_the_milestones(run: str) -> None:
    for step in (10, 20, 30, 40, 50):
        checkpoint.save(run, snapshot(step))
    storage.remove(storage.join(run, "checkpoints", "step-00000030", "COMMITTED"))
    assert checkpoint.prune(run, keep_last=2, keep_every=20) == [10, 30]
    assert checkpoint.committed_steps(run) == [20, 40, 50]
    assert checkpoint.load(run, 20).step == 20


def test_the_saver_bears_a_full_store_and_loses_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: list[int] = []
    config = CheckpointConfig(asynchronous=False, save_patience_minutes=0.0)
    saver = Saver(str(tmp_path), config, lambda step, size, seconds: committed.append(step), retry=FAST)

    def full(*args, **options) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", full)
        saver.submit(snapshot(1))
        assert isinstance(saver.out_of_patience, OSError)
    saver.submit(snapshot(2))
    assert saver.out_of_patience is None
    assert committed == [2] == checkpoint.committed_steps(str(tmp_path))


def test_the_saver_saves_in_the_background(tmp_path: Path) -> None:
    committed: list[int] = []
    saver = Saver(
        str(tmp_path), CheckpointConfig(keep_last=1), lambda step, size, seconds: committed.append(step)
    )
    saver.submit(snapshot(1))
    saver.wait()
    saver.finish(snapshot(2))
    assert committed == [1, 2]
    assert checkpoint.committed_steps(str(tmp_path)) == [2]
