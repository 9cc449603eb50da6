"""Does each system of Table 1 learn its task, beside the same run with learning rate 0?

    python -m benchmarks.learning.peers --shards DIR --zooms DIR --out DIR [--only aot,bsp] [--gvf FILE] [--seeds 1,2]

The recipes of configs/pretrain at the size of configs/demo.yaml: the same objective and the same kind of views, with
a small network, few frames and few steps. Two runs side by side; a run that is done is not run again. Writes
``peers.json``, with the commit, and prints the table of the README.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.learning.runs import KINDS, read, said, train
from benchmarks.machine import machine

#: Steps of a run by objective, and how often it is validated in them.
STEPS = {"aot": 48, "bsp": 48, "tsp": 320, "vthcl": 96}
VALIDATIONS = 8
#: Further figures of a validation that are kept.
FIGURES = ("val_foreground", "val_class_hits", "val_region_loss", "val_share_same_class")

#: What the demonstration's contrast needs and a classifier ignores, put back to the defaults.
_CLASSIFIER = [
    "synthesis.views=1",
    "synthesis.size=40",
    "objective.negatives=queue",
    "queue.mask_unfilled=false",
    "model.head_bn=false",
    "model.final_relu=true",
    "model.norm=clip_and_region",
    "model.momentum=0.999",
    "model.temperature=0.07",
    "objective.dropout=0.0",
]
_WHOLE = ["synthesis.paste=none", "synthesis.stride_max=1", "synthesis.background_stride=4"]
RECIPES: dict[str, list[str]] = {
    "aot": [
        *_CLASSIFIER,
        *_WHOLE,
        "data.global_batch=16",
        *("synthesis.clips=2", "synthesis.region_min=2", "synthesis.region_max=2"),
    ],
    "bsp": [
        *_CLASSIFIER,
        *("synthesis.paste=boundary", "synthesis.beta_min=1.0", "synthesis.background_stride=4"),
        *("synthesis.clips=4", "synthesis.clip_frames=2", "synthesis.region_max=3"),
        *("data.block_clips=4", "objective.class_weight=0.0"),
    ],
    "tsp": [
        *_CLASSIFIER,
        *_WHOLE,
        *("synthesis.clips=2", "synthesis.region_min=2", "synthesis.region_max=2"),
    ],
    "vthcl": [
        *_WHOLE,
        *("synthesis.clips=4", "synthesis.clip_frames=4", "synthesis.region_min=4", "synthesis.region_max=4"),
        *("objective.negatives=batch", "queue.mask_unfilled=false", "queue.size=256"),
        *("model.norm=clip_and_region", "model.final_relu=true"),
    ],
}


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.peers", description=__doc__)
    parser.add_argument("--shards", help="labelled shard set of spans with a val split")
    parser.add_argument("--zooms", help="shard set of benchmarks.learning.zooms, for aot")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and peers.json")
    parser.add_argument("--only", default=",".join(RECIPES), help="objectives, separated by commas")
    parser.add_argument("--gvf", default="", help="global video features of tsp (pal-eval gvf)")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--steps", type=int, help="of every run, instead of each objective's own")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting of all runs")
    arguments = parser.parse_args(argv)
    names = arguments.only.split(",")
    unknown = sorted(set(names) - set(RECIPES))
    if unknown:
        parser.error(f"--only {','.join(unknown)}: use {', '.join(RECIPES)}")
    for name in names:
        if _shards(arguments, name) is None:
            parser.error(f"{'--zooms' if name == 'aot' else '--shards'} is missing: the shard set for {name}")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    jobs = [(name, kind, seed) for name in names for seed in seeds for kind in KINDS]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: _train(arguments, *job), jobs))
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, kind, seed in jobs:
        found[name][f"{kind} {seed}"] = read(_folder(arguments, name, kind, seed), FIGURES)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "objectives": found}
    (arguments.out / "peers.json").write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(table(found, seeds))
    return 0


def table(found: dict[str, dict[str, Any]], seeds: list[int]) -> str:
    """Return the figures as Markdown: a row an objective and seed; held-out loss / top-1 percent, and the verdict."""
    lines = [
        "| objective | seed | steps | a guess | untrained | learning rate 0 | recipe |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        for seed in seeds:
            control, recipe = (runs[f"{kind} {seed}"] for kind in KINDS)
            guess = _pair(recipe["rows"][-1], "val_chance_loss", "val_chance_top1")
            ends = [f"{_pair(run['rows'][-1])}, {said(run['learned'])}" for run in (control, recipe)]
            steps, untrained = recipe["rows"][-1]["step"], _pair(recipe["rows"][0])
            lines.append(f"| {name} | {seed} | {steps} | {guess} | {untrained} | {' | '.join(ends)} |")
    return "\n".join(lines) + "\n"


def _pair(row: dict[str, Any], loss: str = "val_loss", top1: str = "val_top1") -> str:
    return f"{row[loss]:.3f} / {100 * row[top1]:.1f}"


def _folder(arguments: argparse.Namespace, name: str, kind: str, seed: int) -> Path:
    out: Path = arguments.out
    return out / f"{name}-{kind}-{seed}"


def _shards(arguments: argparse.Namespace, name: str) -> str | None:
    shards: str | None = arguments.zooms if name == "aot" else arguments.shards
    return shards


def _train(arguments: argparse.Namespace, name: str, kind: str, seed: int) -> None:
    steps = arguments.steps or STEPS[name]
    settings = [
        f"objective.name={name}",
        "data.global_batch=32",
        *RECIPES[name],
        *([f"objective.gvf={arguments.gvf}"] if name == "tsp" and arguments.gvf else []),
        f"data.shards={_shards(arguments, name)}",
        f"run.seed={seed}",
        f"run.max_steps={steps}",
        f"validation.every_steps={max(1, steps // VALIDATIONS)}",
        f"checkpoint.every_steps={steps}",
        *arguments.set,
    ]
    train(_folder(arguments, name, kind, seed), kind, settings)


if __name__ == "__main__":
    sys.exit(main())
