"""Weights & Biases, where it is installed: offline without a key, offline where it can't be reached, never an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from pal_ds.config import LogConfig
from pal_ds.training.logging.run_log import RunLog

pytest.importorskip("wandb", reason="pip install wandb to test it")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("reachable", [True, False])
def test_a_run_is_one_run_over_its_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if not reachable:
        monkeypatch.setattr("pal_ds.training.logging.wandb_log._INIT_SECONDS", 2.0)
        monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run = tmp_path / "run"
    for step in (0, 1):
        log = RunLog(str(run), LogConfig(tensorboard=False, wandb="pal"), step=step, settings={"a": {"b": 1}})
        log.metrics({"step": step + 1, "loss": 0.5, "batch_hash": "ab"})
        log.close()
    name = (run / "wandb_id.txt").read_text().strip()
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{name}.wandb"] * 2
    for path in files:
        assert b"loss" in path.read_bytes()
