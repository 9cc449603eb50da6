"""Small runs: stopped and resumed, twice the same, in every precision and ZeRO stage."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.clips import set_of
from benchmarks.gpu.context import Context, difference
from benchmarks.models.common import noise_batch
from pal_ds.config import Config
from pal_ds.distributed import ranks as rank_room
from pal_ds.distributed.arithmetic import set_arithmetic
from pal_ds.formats import checkpoint
from pal_ds.models import build_objective
from pal_ds.training.engine import TrainEngine
from pal_ds.training.step_result import StepResult

_PREEMPTED = 75


def resume(context: Context) -> dict[str, Any]:
    """Train through the launcher without a stop and with one, and compare batches, losses and the end's bits."""
    # Tiny steps are done before a signal comes: there must be some left to be stopped in.
    steps, stop = context.pick((12, 6), (10, 2))
    shards = set_of(context, "small")
    found: dict[str, Any] = {}
    runs = {}
    for name, stop_at in (("whole", None), ("stopped", stop)):
        run = context.folder / f"resume-{name}"
        shutil.rmtree(run, ignore_errors=True)
        words = context.words(f"data.shards={shards}", f"run.dir={run}", f"run.max_steps={steps}")
        words += ["run.epochs=1000", "run.deterministic=true", "checkpoint.every_steps=1000"]
        statuses = [train(context, words, stop_at)]
        if stop_at is not None:
            statuses.append(train(context, words, None))
        expected = [0] if stop_at is None else [_PREEMPTED, 0]
        if [status for status, _ in statuses] != expected:
            raise RuntimeError(f"{name}: ended with {statuses}, expected {expected}")
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        runs[name] = {row["step"]: row for row in rows if "val_loss" not in row}
    whole, stopped = runs["whole"], runs["stopped"]
    found["batches equal"] = all(whole[at]["batch_hash"] == stopped[at]["batch_hash"] for at in whole)
    found["losses equal"] = all(whole[at]["loss"] == stopped[at]["loss"] for at in whole)
    ends = [checkpoint.load(str(context.folder / f"resume-{name}"), steps).model for name in runs]
    found["final bits equal"] = all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    found["losses"] = [row["loss"] for row in whole.values()]
    return found


def train(context: Context, words: list[str], stop_at: int | None, **extra: str) -> tuple[int, str]:
    """Run the launcher; with ``stop_at`` send the rank SIGTERM at that step. Return status and what it said of it."""
    os.environ.update(extra)
    process = context.launch(words, plain=stop_at is None)
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        step = step_of(line)
        if stop_at is not None and step is not None and step >= stop_at:
            os.kill(rank_of(process.pid), signal.SIGTERM)
            stop_at = None
    return process.wait(), "" if process.returncode in (0, _PREEMPTED) else "".join(said)[-3000:]


def step_of(line: str) -> int | None:
    """Return the step that a console line tells; None where it tells none."""
    words = line.split()
    if words[:1] == ["step"] and len(words) > 1 and words[1].partition("/")[0].isdigit():
        return int(words[1].partition("/")[0])
    return None


def rank_of(started: int) -> int:
    """Return the process id of the training rank: what was started, or the one below the launcher."""
    import psutil

    found: list[int] = []
    process = psutil.Process(started)
    for child in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()[:4]
            if "launch/pretrain.py" in words and not any("deepspeed" in word for word in words):
                found.append(child.pid)
    return min(found)


def engine_of(config: Config, context: Context) -> TrainEngine:
    """Return an engine with the run's seed, on the one rank of the process group."""
    ranks = rank_room.Ranks(0, 1, 0, 1, context.device)
    torch.manual_seed(config.run.seed)
    return TrainEngine(build_objective(config.objective, config.model, config.queue), config, ranks)


def steps_of(engine: TrainEngine, config: Config, context: Context, count: int) -> list[StepResult]:
    """Run optimizer steps on noise, always the same."""
    results = []
    for step in range(count):
        torch.manual_seed(100 + step)
        batch = noise_batch(config, config.data.global_batch, context.device)
        engine.set_rate(1e-3)
        engine.begin_step()
        engine.micro_step(batch)
        results.append(engine.finish_step().result())
    return results


def state_of(engine: TrainEngine) -> dict[str, Tensor]:
    """Return copies of all weights and buffers on the host."""
    return {name: value.detach().cpu().clone() for name, value in engine.objective.state_dict().items()}


def bits(context: Context) -> dict[str, Any]:
    """Run the same steps twice, as a run does by default and with run.deterministic, and compare the bits."""
    context.ranks()
    found: dict[str, Any] = {}
    for name, words in (("default", []), ("deterministic", ["run.deterministic=true"])):
        config = context.config(*words)
        set_arithmetic(config.run)
        states, began = [], time.perf_counter()
        for _ in range(2):
            engine = engine_of(config, context)
            steps_of(engine, config, context, context.pick(5, 2))
            states.append(state_of(engine))
        one, two = states
        found[name] = {
            "equal": all(torch.equal(one[key], two[key]) for key in one),
            "largest difference": max(
                difference(one[key], two[key]) for key in one if one[key].is_floating_point()
            ),
            "seconds": time.perf_counter() - began,
        }
    set_arithmetic(context.config().run)
    return found


def overflow(context: Context) -> dict[str, Any]:
    """Make fp16 gradients overflow: the step is left out, the scale falls, and the next ones are applied."""
    context.ranks()
    config = context.config("precision=fp16")
    engine = engine_of(config, context)
    (first,) = steps_of(engine, config, context, 1)
    scale = engine.scaler.get_scale()
    engine.scaler.update(2.0**100)
    before = state_of(engine)
    (forced,) = steps_of(engine, config, context, 1)
    fell = engine.scaler.get_scale()
    now = state_of(engine)
    unmoved = all(torch.equal(now[name], before[name]) for name in engine.optimizer_params)
    engine.scaler.update(scale)
    (after,) = steps_of(engine, config, context, 1)
    return {
        "first step applied": first.applied,
        "forced step is an overflow": forced.overflow and not forced.applied and not forced.bad,
        "weights unmoved by it": unmoved,
        "scale fell": fell < 2.0**100,
        "next step applied": after.applied,
    }


def zero(context: Context) -> dict[str, Any]:
    """Run the same steps under ZeRO 0, 1 and 2 and compare what they end with."""
    context.ranks()
    found: dict[str, Any] = {}
    states = []
    for stage in (0, 1, 2):
        config = context.config(f"zero_stage={stage}")
        engine = engine_of(config, context)
        results = steps_of(engine, config, context, context.pick(4, 2))
        found[f"stage {stage} norms"] = [result.grad_norm for result in results]
        states.append(state_of(engine))
    for stage in (1, 2):
        pairs = [(states[stage][key], value) for key, value in states[0].items() if value.is_floating_point()]
        found[f"stage {stage} off"] = max(difference(one, two) for one, two in pairs)
    return found


def recompute(context: Context) -> dict[str, Any]:
    """Compare recomputed stages with everything kept: the same bits, and how much less memory."""
    context.ranks()
    found: dict[str, Any] = {}
    states = []
    stages = context.pick(11, 4)
    for count in (0, 1, stages):
        config = context.config(f"model.recompute_stages={count}", "run.deterministic=true")
        set_arithmetic(config.run)
        engine = engine_of(config, context)
        if context.cuda:
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        steps_of(engine, config, context, context.pick(3, 1))
        context.wait()
        found[f"{count} stages"] = {"seconds": time.perf_counter() - began}
        if context.cuda:
            found[f"{count} stages"]["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        states.append(state_of(engine))
        del engine
    set_arithmetic(context.config().run)
    for count, state in zip((1, stages), states[1:], strict=True):
        found[f"{count} stages"]["bits equal"] = all(torch.equal(state[key], states[0][key]) for key in state)
    return found


def last_rows(run: Path) -> list[dict[str, Any]]:
    """Return the training rows of a run."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "val_loss" not in row]
