"""Train every config of configs/pretrain for 20 steps on real clips, through the real entry point.

    python -m benchmarks.models.ablations --shards DEMO_SET --out benchmarks/models/ablations.json

Only sizes are overridden: width, frame size, queue, batch, workers and the number of steps; precision, objective,
synthesis, augmentation, optimizer and schedule stay as the file has them. The set needs labels and a val split
(``python -m launch.demo`` makes one). Fails if a run does not end as done with finite losses.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.models.common import ROOT, finite, pretrain

SMALLER = (
    "model.width=0.125",
    "synthesis.size=32",
    "queue.size=64",
    "data.global_batch=8",
    "data.workers=0",
    "log.every_steps=1",
)


def train(config: Path, shards: str, run: Path, steps: int) -> dict[str, Any]:
    """Run one config; return what became of it."""
    begun = time.monotonic()
    code, rows, state, stderr = pretrain(
        config, run, f"data.shards={shards}", f"run.max_steps={steps}", *SMALLER
    )
    losses = [row["loss"] for row in rows if "loss" in row]
    validations = [row["val_loss"] for row in rows if "val_loss" in row]
    sound = (
        code == 0
        and state.get("state") == "done"
        and len(losses) == steps
        and all(map(finite, [*losses, *validations]))
    )
    return {
        "config": str(config.relative_to(ROOT / "configs" / "pretrain")),
        "sound": sound,
        "status": code,
        "state": state.get("state"),
        "steps": len(losses),
        "losses": losses,
        "val_loss": validations[-1] if validations else None,
        "seconds": round(time.monotonic() - begun, 1),
        **({} if sound else {"stderr": stderr[-2000:]}),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| config | state | steps | first loss | last loss | val loss |", "|---|---|---|---|---|---|"]
    for row in results:
        losses = row["losses"] or [float("nan")]
        validation = "" if row["val_loss"] is None else f"{row['val_loss']:.3f}"
        numbers = f"{row['steps']} | {losses[0]:.3f} | {losses[-1]:.3f} | {validation}"
        lines.append(f"| {row['config']} | {row['state']} | {numbers} |")
    return "\n".join(lines)


def main() -> int:
    """Run all configs, or those whose path holds a word."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True, help="shard set with labels and a val split")
    parser.add_argument("--only", default="", help="run configs whose path contains this")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    # Those for encoders of transformers need their folders.
    configs = sorted(
        path
        for path in (ROOT / "configs" / "pretrain").rglob("*.yaml")
        if "backbone: hf:" not in path.read_text()
    )
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, config in enumerate(path for path in configs if args.only in str(path)):
            results.append(train(config, args.shards, Path(scratch) / str(number), args.steps))
            print(
                json.dumps({key: results[-1][key] for key in ("config", "sound", "state", "seconds")}),
                flush=True,
            )
    if args.out:
        document = {"machine": machine(), "overrides": SMALLER, "steps": args.steps, "runs": results}
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    print(table(results))
    return 0 if results and all(row["sound"] for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
