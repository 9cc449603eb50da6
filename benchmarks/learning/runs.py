"""Runs of the demonstration's size through launch/pretrain.py, and what their logs say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pal_ds.viz.run_facts import collect_run

ROOT = Path(__file__).resolve().parents[2]
#: A run with learning rate 0, and the same run with the recipe's.
KINDS = ("control", "recipe")
_KEPT = (
    "step",
    "val_loss",
    "val_top1",
    "val_loss_error",
    "val_top1_error",
    "val_chance_loss",
    "val_chance_top1",
)


def train(run: Path, kind: str, settings: Sequence[str]) -> None:
    """Train in a process of one thread; a run that is done is left as it is.

    Args:
        run: its folder.
        kind: of :data:`KINDS`.
        settings: ``section.key=value``, over those of configs/demo.yaml.

    Raises:
        RuntimeError: it failed.
    """
    status = run / "STATUS.json"
    if status.exists() and json.loads(status.read_text())["state"] == "done":
        return
    command = [sys.executable, "launch/pretrain.py", "--config", "configs/demo.yaml", f"run.dir={run}"]
    command += ["data.workers=0", "log.every_steps=1", "log.tensorboard=false", *settings]
    command += ["optimizer.lr=0"] if kind == "control" else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{run.name} ended with status {done.returncode}: {done.stderr[-1500:]}")


def read(run: Path, figures: Sequence[str]) -> dict[str, Any]:
    """Return a run's validations and the report's verdict.

    Args:
        run: its folder.
        figures: of a validation, beside loss, top-1 and their controls; those that it has are kept.
    """
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    verdict = collect_run(str(run)).verdict
    assert verdict is not None
    return {
        "rows": [
            {name: row[name] for name in (*_KEPT, *figures) if name in row}
            for row in rows
            if "val_loss" in row
        ],
        "learned": verdict.learned,
        "headline": verdict.headline,
        "reasons": list(verdict.reasons),
    }


def said(learned: bool | None) -> str:
    """Return a verdict in words."""
    return {True: "learned", False: "has not learned", None: "no verdict"}[learned]
