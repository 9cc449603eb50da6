"""Does half precision train as fp32 does? 200 steps on real clips: bf16 and fp16 autocast beside three fp32 seeds.

    python -m benchmarks.models.precision --shards DEMO_SET

The rule, fixed before the runs: losses are averaged over windows of 20 steps; in every window a half-precision run
lies within 3 sigma of the mean of the fp32 seeds, where sigma is the seeds' standard deviation (n - 1), pooled over
the windows because three values say little about their own spread. The half-precision runs have a fourth and a
fifth seed, so that they differ from the fp32 runs by as much as those differ from one another. Runs are spread over
the cores, one each, the slowest (fp16 has no fast convolutions on most CPUs) first.
Writes precision.json and precision.png into this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.models.common import FOLDER, ROOT, pretrain

WINDOW = 20
RUNS = (("fp16", 4), ("fp32", 0), ("fp32", 1), ("fp32", 2), ("bf16", 3))
SETTINGS = (
    "model.width=0.125",
    "synthesis.size=32",
    "data.global_batch=8",
    "data.workers=0",
    "log.every_steps=1",
    "checkpoint.every_steps=1000",
    "validation.every_steps=0",
)


def windows(losses: list[float]) -> list[float]:
    """Return the mean of every whole window of steps."""
    whole = len(losses) // WINDOW * WINDOW
    return [statistics.fmean(losses[at : at + WINDOW]) for at in range(0, whole, WINDOW)]


def judge(curves: dict[str, list[float]]) -> dict[str, Any]:
    """Compare half-precision curves with the fp32 seeds, as far as each goes; see the module's text for the rule."""
    seeds = [windows(losses) for name, losses in curves.items() if name.startswith("fp32")]
    mean = [statistics.fmean(values) for values in zip(*seeds, strict=True)]
    pooled = statistics.fmean(statistics.variance(values) for values in zip(*seeds, strict=True)) ** 0.5
    verdict: dict[str, Any] = {"window_steps": WINDOW, "mean": mean, "sigma": pooled, "runs": {}}
    for name, losses in curves.items():
        if not name.startswith("fp32"):
            far = [(value - middle) / pooled for value, middle in zip(windows(losses), mean, strict=False)]
            verdict["runs"][name] = {
                "steps": len(losses),
                "sigmas": far,
                "largest": max(map(abs, far)),
                "within": max(map(abs, far)) <= 3,
            }
    return verdict


def plot(curves: dict[str, list[float]], verdict: dict[str, Any], path: Path) -> None:
    """Draw the windows' means and the band of 3 sigma."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    at = [WINDOW * (number + 0.5) for number in range(len(verdict["mean"]))]
    low, high = ([value + sign * verdict["sigma"] for value in verdict["mean"]] for sign in (-3, 3))
    axes.fill_between(at, low, high, color="0.9", label="mean of fp32 ± 3 sigma")
    for name, losses in curves.items():
        plain = name.startswith("fp32")
        means = windows(losses)
        axes.plot(at[: len(means)], means, color="0.6" if plain else None, lw=1 if plain else 2, label=name)
    axes.set(
        xlabel="optimizer step",
        ylabel=f"InfoNCE, mean of {WINDOW} steps",
        title="Half precision against fp32",
    )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def train(
    precision: str, seed: int, shards: str, steps: int, folder: Path, core: int
) -> tuple[str, list[float]]:
    """Run one precision and seed on one core; return its name and the loss of every step."""
    name = f"{precision} seed {seed}"
    settings = [f"data.shards={shards}", f"run.max_steps={steps}", f"precision={precision}"]
    settings += [f"run.seed={seed}", *SETTINGS]
    run = folder / f"{precision}-{seed}"
    code, rows, _, stderr = pretrain(ROOT / "configs" / "demo.yaml", run, *settings, core=core)
    if code:
        raise RuntimeError(f"{name}: status {code}\n{stderr[-2000:]}")
    losses = [row["loss"] for row in rows if "loss" in row]
    print(f"{name}: {windows(losses)}", flush=True)
    return name, losses


def main() -> int:
    """Run all five and judge them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True, help="shard set with a train split")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder for precision.json and precision.png"
    )
    args = parser.parse_args()
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in os.sched_getaffinity(0):
        cores.put(core)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(cores.qsize()) as pool:

        def one(run: tuple[str, int]) -> tuple[str, list[float]]:
            core = cores.get()
            try:
                return train(*run, args.shards, args.steps, Path(scratch), core)
            finally:
                cores.put(core)

        curves = dict(pool.map(one, RUNS))
    verdict = judge(curves)
    document = {"machine": machine(), "settings": SETTINGS, "verdict": verdict, "losses": curves}
    (args.out / "precision.json").write_text(json.dumps(document, indent=1) + "\n")
    plot(curves, verdict, args.out / "precision.png")
    for name, found in verdict["runs"].items():
        print(f"{name}: largest distance {found['largest']:.2f} sigma, within 3: {found['within']}")
    return 0 if all(found["within"] for found in verdict["runs"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
