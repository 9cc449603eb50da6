"""A process that does nothing but save, one step after the other, for tests that kill it."""

from __future__ import annotations

import os

import torch

from pal_ds.config import CheckpointConfig
from pal_ds.formats.checkpoint import Snapshot
from pal_ds.storage import RetryPolicy
from pal_ds.training.checkpoint.background_saver import Saver

QUICK = RetryPolicy(budget_seconds=60.0, first_delay=0.02, max_delay=0.2, patient_access=True)
KEEP_LAST = 2


def snapshot_of(step: int) -> Snapshot:
    """Return a state of ten megabytes whose every number says its step."""
    model = {"weight": torch.full((1500, 1500), float(step)), "queue.pointer": torch.tensor(step)}
    optimizer = {"weight.exp_avg": torch.full((500, 500), float(step))}
    return Snapshot(step, model, optimizer, {"epoch": step // 7, "schedule": {"best": step / 3}})


def save_for_ever(run_url: str, first: int, environment: dict[str, str]) -> None:
    """Save steps ``first``, ``first + 1``, … in the saver's thread, until killed."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    config = CheckpointConfig(keep_last=KEEP_LAST)
    saver = Saver(run_url, config, lambda step, size, seconds: None, retry=QUICK, pause=0.05)
    step = first
    while True:
        saver.submit(snapshot_of(step))
        saver.wait()
        step += 1
