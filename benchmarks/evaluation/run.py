"""Time and memory of ``pal-eval`` on a file of ActivityNet's size with a million predictions.

Writes random ground truth (5,000 videos, 200 classes) and random predictions in the official JSON form, runs
the command as a user would and prints its wall time and the peak of its resident memory.

    python -m benchmarks.evaluation.run [--predictions 1000000] [--videos 5000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

CLASSES = 200


def write_inputs(folder: Path, videos: int, predictions: int) -> tuple[Path, Path]:
    """Write ground truth and predictions; half of the predictions lie near an annotated segment."""
    draw = random.Random(0)
    database, results = {}, {}
    for number in range(videos):
        duration = draw.uniform(20, 240)
        label = f"class {draw.randrange(CLASSES)}"
        segments = []
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            start = draw.uniform(0, duration * 0.8)
            segments.append([start, draw.uniform(start, duration)])
        database[f"video{number:05d}"] = {
            "subset": "validation",
            "duration": duration,
            "annotations": [{"segment": segment, "label": label} for segment in segments],
        }
        rows = []
        for _ in range(predictions // videos):
            if draw.random() < 0.5:
                near = draw.choice(segments)
                ends = [end + draw.gauss(0, 0.1 * duration) for end in near]
                name = label
            else:
                ends = [draw.uniform(0, duration) for _ in range(2)]
                name = f"class {draw.randrange(CLASSES)}"
            rows.append({"segment": sorted(ends), "score": draw.random(), "label": name})
        results[f"video{number:05d}"] = rows
    truth, guesses = folder / "truth.json", folder / "predictions.json"
    truth.write_text(json.dumps({"version": "1.3", "database": database}))
    guesses.write_text(json.dumps({"version": "1.3", "results": results, "external_data": {}}))
    return truth, guesses


def measure(task: str, truth: Path, guesses: Path) -> dict[str, object]:
    """Run one task in a fresh process; wall seconds and peak resident MiB of that process alone."""
    command = [sys.executable, "-m", "pal_ds.cli.evaluate", task, "--json"]
    command += ["--ground-truth", str(truth), "--predictions", str(guesses)]
    begin = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise SystemExit(f"pal-eval {task} failed")
    return {"task": task, "seconds": round(seconds, 2), "peak_mib": round(usage.ru_maxrss / 1024)}


def main() -> None:
    """Measure detection and proposals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--videos", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        truth, guesses = write_inputs(Path(folder), options.videos, options.predictions)
        size = guesses.stat().st_size / 2**20
        print(
            f"{options.predictions:,} predictions over {options.videos:,} videos, {size:.0f} MiB of JSON",
            flush=True,
        )
        for task in ("detection", "proposals"):
            print(json.dumps(measure(task, truth, guesses)), flush=True)


if __name__ == "__main__":
    main()
