"""Does each system of Table 1 learn its task, beside the same run with learning rate 0?

    python -m benchmarks.learning.peers --shards DIR --out DIR [--only aot,bsp] [--gvf FILE] [--seeds 1,2]

The recipes of configs/pretrain at the size of configs/demo.yaml: the same objective and the same kind of views, with
a small network, few frames and few steps. Every run goes through launch/pretrain.py in a process of one thread, two
side by side; a run that is done is not run again. Writes ``peers.json`` and prints the table of the README.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pal_ds.viz.run_facts import collect_run

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("control", "recipe")
#: Steps of a run by objective, and what it is validated every so many.
STEPS = {"aot": 96, "bsp": 48, "tsp": 64, "vthcl": 96}
VALIDATIONS = 4

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
    parser.add_argument("--shards", required=True, help="labelled shard set of spans with a val split")
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
    jobs = [
        (name, kind, int(seed)) for name in names for seed in arguments.seeds.split(",") for kind in KINDS
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: _train(arguments, *job), jobs))
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, kind, seed in jobs:
        found[name][f"{kind} {seed}"] = _read(_folder(arguments, name, kind, seed))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "peers.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write("\n".join(table(name, runs) for name, runs in found.items()))
    return 0


def table(name: str, runs: dict[str, dict[str, Any]]) -> str:
    """Return an objective's figures as Markdown: a row a step, a column a run; held-out loss / top-1 percent."""
    columns = list(runs)
    lines = [f"| {name}, step | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for number, row in enumerate(runs[columns[0]]["rows"]):
        cells = [runs[column]["rows"][number] for column in columns]
        texts = [f"{cell['val_loss']:.3f} / {100 * cell['val_top1']:.1f}" for cell in cells]
        lines.append(f"| {row['step']} | " + " | ".join(texts) + " |")
    verdicts = ["learned" if runs[column]["learned"] else "has not learned" for column in columns]
    return "\n".join([*lines, "| verdict | " + " | ".join(verdicts) + " |"]) + "\n"


def _folder(arguments: argparse.Namespace, name: str, kind: str, seed: int) -> Path:
    out: Path = arguments.out
    return out / f"{name}-{kind}-{seed}"


def _train(arguments: argparse.Namespace, name: str, kind: str, seed: int) -> None:
    run = _folder(arguments, name, kind, seed)
    status = run / "STATUS.json"
    if status.exists() and json.loads(status.read_text())["state"] == "done":
        return
    steps = arguments.steps or STEPS[name]
    settings = [
        f"objective.name={name}",
        *RECIPES[name],
        *([f"objective.gvf={arguments.gvf}"] if name == "tsp" and arguments.gvf else []),
        f"data.shards={arguments.shards}",
        f"run.dir={run}",
        f"run.seed={seed}",
        f"run.max_steps={steps}",
        f"validation.every_steps={max(1, steps // VALIDATIONS)}",
        f"checkpoint.every_steps={steps}",
        "data.global_batch=32",
        "data.workers=0",
        "log.every_steps=1",
        "log.tensorboard=false",
        *(["optimizer.lr=0"] if kind == "control" else []),
        *arguments.set,
    ]
    command = [sys.executable, "launch/pretrain.py", "--config", "configs/demo.yaml", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} {kind} {seed} ended with {done.returncode}: {done.stderr[-1500:]}")


def _read(run: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = ["step", "val_loss", "val_top1", "val_loss_error", "val_top1_error", "val_chance_loss"]
    kept += ["val_chance_top1", "val_foreground", "val_class_hits", "val_share_same_class"]
    verdict = collect_run(str(run)).verdict
    assert verdict is not None
    return {
        "rows": [{name: row[name] for name in kept if name in row} for row in rows if "val_loss" in row],
        "learned": verdict.learned,
        "headline": verdict.headline,
        "reasons": list(verdict.reasons),
    }


if __name__ == "__main__":
    sys.exit(main())
