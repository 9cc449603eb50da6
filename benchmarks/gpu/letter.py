"""The paper's run to the letter on one card, 500 steps at batch 512: does it learn, do features keep their spread?

It goes on where it was stopped, so a phase that is too short is run again. The clips are drawn here; what is asked is
whether the method trains as configured, not how well features serve.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import threading
from typing import Any

import torch

from benchmarks.gpu.clips import set_of
from benchmarks.gpu.context import LETTER, ROOT, Context
from benchmarks.gpu.runs import last_rows, rank_of
from pal_ds.config import load_config
from pal_ds.planning.memory import GIB, memory_fix, memory_need

_STEPS = 500
#: Seconds before the step's end at which the run is asked to save and leave.
_LEAVE = 45.0


def run(context: Context) -> dict[str, Any]:
    """Go on with the run as far as the time allows, and tell where it stands."""
    folder = context.folder / "letter-run"
    steps = context.pick(_STEPS, 6)
    words = context.words("data.group_size=4") if context.tiny else [f"precision={context.precision}"]
    words += [f"data.shards={set_of(context, 'letter')}", f"run.dir={folder}", f"run.max_steps={steps}"]
    words += [
        "run.epochs=100000",
        "validation.every_epochs=0",
        f"validation.every_steps={context.pick(100, 3)}",
    ]
    words += [
        "schedule.name=plateau",
        "checkpoint.every_steps=100",
        "log.every_steps=1",
        "log.tensorboard=false",
    ]
    words += _memory_words(context, words)
    process = context.launch(words)
    timer = threading.Timer(max(5.0, context.deadline - _LEAVE), _ask_to_leave, args=(process.pid,))
    timer.daemon = True
    timer.start()
    assert process.stdout is not None
    said = process.stdout.read()
    status = process.wait()
    timer.cancel()
    if status not in (0, 75):
        raise RuntimeError(f"training ended with {status}: {said[-3000:]}")
    return {"finished": status == 0, "settings": words} | _told(context, folder)


def _ask_to_leave(launcher: int) -> None:
    os.kill(rank_of(launcher), signal.SIGTERM)


def _memory_words(context: Context, words: list[str]) -> list[str]:
    """Return what the planner says to set so that the batch fits this card; gradients stay the same."""
    if not context.cuda or context.tiny:
        return []
    config = load_config(ROOT / LETTER, words)
    capacity = torch.cuda.get_device_properties(context.device).total_memory / GIB
    if memory_need(config, 1).total(config.data.global_batch) <= capacity * GIB:
        return []
    fix = memory_fix(config, 1, capacity)
    if not fix.startswith("set model."):
        raise RuntimeError(f"batch {config.data.global_batch} does not fit: {fix}")
    return [fix.split()[1]]


def _told(context: Context, folder: Any) -> dict[str, Any]:
    rows = last_rows(folder)
    text = (folder / "metrics.jsonl").read_text().splitlines()
    validations = [row for row in map(json.loads, text) if "val_loss" in row]
    size = load_config(ROOT / LETTER, ["data.shards=x", "run.dir=x"]).queue.size
    few = context.pick(25, 2)
    chance = math.log(1 + size)
    end = rows[-few:]
    return {
        "steps": rows[-1]["step"],
        "chance: ln(1 + queue)": chance,
        "loss at first": statistics.mean(row["loss"] for row in rows[:few]),
        "loss at last": statistics.mean(row["loss"] for row in end),
        "highest loss": max(row["loss"] for row in rows),
        "loss below chance at last": statistics.mean(row["loss"] for row in end) < chance,
        "feature_std at first": statistics.mean(row["feature_std"] for row in rows[:few]),
        "feature_std at last": statistics.mean(row["feature_std"] for row in end),
        "feature_std of no direction": 1 / math.sqrt(128),
        "videos/s": statistics.median(row["videos_per_second"] for row in rows),
        "data wait": statistics.mean(row["data_wait"] for row in rows),
        "validations": [
            {name: row.get(name) for name in ("step", "val_loss", "val_top1")} for row in validations
        ],
        "curve": [
            {name: row.get(name) for name in ("step", "loss", "top1", "feature_std", "queue_fill")}
            for row in rows[:: max(1, len(rows) // 50)]
        ],
    }
