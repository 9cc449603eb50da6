#!/usr/bin/env python
"""The training loop beside a bare PyTorch loop, what a checkpoint costs, and how long the loader makes it wait.

    python -m benchmarks.training.run [--only loop1 loop2 checkpoint loader] [--out FILE] [SETTING …]

Loop and bare loop take turns in one process, block by block, so that what else the machine does falls on both. Each
block of ours is compared with the mean of the bare blocks on its two sides, so that a machine that grows slower or
faster favours neither; the figure is the median. Processor seconds of the process stand beside it: with one thread
(OMP_NUM_THREADS=1) other programs on the machine hardly touch them. A setting, section.key=value, changes the
measured run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.training.tiny import make_set
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


#: The demonstration's backbone at a quarter of its width, 8 clips of 8 x 56 x 56.
MODEL = [
    "model.width=0.25",
    "synthesis.size=56",
    "data.global_batch=8",
    "data.group_size=4",
    "queue.size=512",
    "schedule.name=constant",
    "validation.every_steps=0",
]
TARGETS = {"loop1": 0.97, "loop2": 0.95}
_CHECKPOINT_EVERY = 30
#: A save is done within so many steps: see the log's "committed" lines.
_SAVING_STEPS = 10


def main(words: list[str] | None = None) -> int:
    """Run; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    names = ("loop1", "loop2", "checkpoint", "loader")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="parts to run")
    parser.add_argument("--pairs", type=int, default=16, help="blocks of ours (default: %(default)s)")
    # Log rows come every fifth step, so each block of five holds one.
    parser.add_argument("--block", type=int, default=5, help="steps of a block (default: %(default)s)")
    parser.add_argument("--saves", type=int, default=8, help="checkpoints timed (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the figures here too")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    args = parser.parse_intermixed_args(words)
    figures: dict[str, Any] = {
        **machine(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "command": " ".join(
            ["python -m benchmarks.training.run", *(sys.argv[1:] if words is None else words)]
        ),
    }
    with tempfile.TemporaryDirectory(prefix="pal-bench-") as name:
        folder = Path(name)
        for part in args.only:
            if part in TARGETS:
                ranks = int(part.removeprefix("loop"))
                figures[part] = loop(folder, ranks, args.settings, pairs=args.pairs, block=args.block)
                figures[part]["target"] = TARGETS[part]
            elif part == "checkpoint":
                figures[part] = checkpoint(folder, args.settings, saves=args.saves)
            else:
                figures[part] = loader(folder, args.settings, steps=args.pairs * args.block)
            sys.stderr.write(f"{part}: {figures[part]}\n")
    text = json.dumps(figures, indent=1) + "\n"
    sys.stdout.write(text)
    if args.out is not None:
        args.out.write_text(text)
    return 0


def loop(folder: Path, ranks: int, settings: list[str], *, pairs: int, block: int) -> dict[str, Any]:
    """Compare the trainer with the bare loop; the first block is warm-up and left out."""
    # The turn after the last block closes it, so one step more.
    steps = block * (pairs + 1) + 1
    found = _measure(folder / f"loop{ranks}", ranks, [*settings, f"run.max_steps={steps}"], block=block)
    ours, bare = found["ours"][1:], found["bare"][1:]
    ratios = _beside(ours, bare)
    processor = _beside(found["ours_processor"][1:], found["bare_processor"][1:])
    return {
        "ranks": ranks,
        "threads per rank": found["threads"],
        "device": found.get("device", "cpu"),
        "blocks": len(ratios),
        "steps a block": block,
        "bare ms per step": round(1000 * statistics.median(bare) / block, 1),
        "ours ms per step": round(1000 * statistics.median(ours) / block, 1),
        "ours / bare steps per second": round(statistics.median(ratios), 4),
        "quartiles": _quartiles(ratios),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "ours / bare steps per processor second": round(statistics.median(processor), 4),
        "processor quartiles": _quartiles(processor),
    }


def _beside(ours: list[float], bare: list[float]) -> list[float]:
    """Return the mean of the two bare blocks around each of ours, over ours."""
    sides = itertools.pairwise(bare)
    return [(before + after) / 2 / taken for taken, (before, after) in zip(ours, sides, strict=True)]


def _quartiles(ratios: list[float]) -> list[float]:
    quarters = statistics.quantiles(ratios, n=4)
    return [round(quarters[0], 4), round(quarters[2], 4)]


def checkpoint(folder: Path, settings: list[str], *, saves: int) -> dict[str, Any]:
    """Compare the steps just after a save, while it is written, with those long after one.

    What a save adds is the sum, over the steps that follow it, of each one's median over all saves less a median
    step: a burst of something else on the machine falls on one save, the save's own work on all.
    """
    every = _CHECKPOINT_EVERY
    more = [f"run.max_steps={every * (saves + 1) + 1}", f"checkpoint.every_steps={every}"]
    found = _measure(folder / "checkpoint", 1, [*settings, *more], block=0)
    asked = found["asked"]
    taken = [later - earlier for earlier, later in itertools.pairwise(asked)]
    # The save after step 50 is made before batch 51 is asked for, in the time of step 50, taken[49].
    rows = [taken[start - 1 : start - 1 + every] for start in range(every, every * (saves + 1), every)]
    by_offset = [statistics.median(column) for column in zip(*rows, strict=False)]
    step = statistics.median(by_offset[_SAVING_STEPS:])
    return {
        "saves": saves,
        "step ms": round(1000 * step, 1),
        "held up at the save, steps": round(by_offset[0] / step - 1, 3),
        f"added over {_SAVING_STEPS} steps, steps": round(
            sum(by_offset[:_SAVING_STEPS]) / step - _SAVING_STEPS, 3
        ),
    }


def loader(folder: Path, settings: list[str], *, steps: int) -> dict[str, Any]:
    """Train from real clips with the real loader; report the share of time spent waiting for them."""
    clips = make_set(folder / "clips", clips=64, size="170x128", short_side=128)
    run = folder / "loader"
    words = ["--config", "configs/demo.yaml", *MODEL, *settings, f"data.shards={clips}", f"run.dir={run}"]
    words += [f"run.max_steps={steps}", "log.every_steps=1"]
    _launch(1, "launch/pretrain.py", words)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last, rows = rows[-1], rows[len(rows) // 5 :]
    return {
        "steps": len(rows),
        "workers": 1,
        "data wait": round(statistics.mean(row["data_wait"] for row in rows), 4),
        "videos per second": round(statistics.median(row["videos_per_second"] for row in rows), 1),
        "decode ms per clip": round(last["loader_decode_ms"], 1),
        "range reads per step": round(last["loader_requests"] / last["step"], 2),
        "kB read per step": round(last["loader_bytes"] / last["step"] / 1e3),
    }


def _measure(folder: Path, ranks: int, settings: list[str], *, block: int) -> dict[str, Any]:
    """Run ``loop.py`` on so many ranks through the launcher."""
    folder.mkdir()
    shard = ShardEntry(name="train-000000.tar", clips=10**6, bytes=10**9, sha256="0" * 64)
    split = SplitEntry(clips=10**6, frames=10**8, seconds=4e6, bytes=10**9, shards=(shard,))
    manifest = Manifest(recipe={}, splits={"train": split}, labels=None)
    (folder / shardset.MANIFEST_NAME).write_bytes(manifest.to_json())
    out = folder / "figures.json"
    words = ["--config", "configs/demo.yaml", "--out", str(out), "--block", str(block)]
    words += [*MODEL, f"data.shards={folder}", f"run.dir={folder / 'run'}", "checkpoint.every_steps=1000000"]
    _launch(ranks, "benchmarks/training/loop.py", [*words, *settings])
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _launch(ranks: int, script: str, words: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(BIN / "deepspeed"), "--num_accelerators", str(ranks), "--master_port", str(port), script]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*command, *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace")[-5000:])
        raise SystemExit(f"{script} ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
