"""Can the instruments say no? The recipe of configs/demo.yaml beside the same run with learning rate 0.

    python -m benchmarks.learning.controls --shards DIR --out DIR [--steps 64] [--every 8] [--seeds 1,2]

Every run goes through launch/pretrain.py in a process of one thread, two side by side; a run that is done is not run
again. Writes ``controls.json`` and prints the table of the README.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.learning.runs import KINDS, read, said, train

FIGURES = ("val_loss", "val_top1", "val_localisation_iou")


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.controls", description=__doc__)
    parser.add_argument("--shards", required=True, help="shard set with a val split")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and controls.json")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--every", type=int, default=8, help="steps between validations")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting of both runs")
    arguments = parser.parse_args(argv)
    jobs = [(kind, int(seed)) for seed in arguments.seeds.split(",") for kind in KINDS]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: _train(arguments, *job), jobs))
    found = {f"{kind} {seed}": read(arguments.out / f"{kind}-{seed}", FIGURES) for kind, seed in jobs}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "controls.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(found))
    return 0


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as Markdown: a row a step, a column a run; loss / top-1 percent / IoU."""
    names = list(found)
    steps = [row["step"] for row in found[names[0]]["rows"]]
    lines = ["| step | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for number, step in enumerate(steps):
        cells = []
        for name in names:
            loss, top1, iou = (found[name]["rows"][number][figure] for figure in FIGURES)
            cells.append(f"{loss:.2f} / {100 * top1:.1f} / {iou:.2f}")
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    verdicts = [said(found[name]["learned"]) for name in names]
    return "\n".join([*lines, "| verdict | " + " | ".join(verdicts) + " |"]) + "\n"


def _train(arguments: argparse.Namespace, kind: str, seed: int) -> None:
    settings = [
        f"data.shards={arguments.shards}",
        f"run.seed={seed}",
        f"run.max_steps={arguments.steps}",
        f"validation.every_steps={arguments.every}",
        "data.global_batch=64",
        "objective.negatives=batch",
        "queue.mask_unfilled=false",
        "queue.size=256",
        *arguments.set,
    ]
    train(arguments.out / f"{kind}-{seed}", kind, settings)


if __name__ == "__main__":
    sys.exit(main())
