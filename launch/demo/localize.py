"""The demonstration's last step: what frozen features say of videos they have never seen, trained and untrained.

A linear probe of action against background, then temporal action detection: the same head on both features, three
seeds each. Nothing is called a success that lies within its interval or spread.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

from pal_ds.viz.report_page import Section, Table

ROOT = Path(__file__).resolve().parents[2]
#: What every annotated moment is called: with 48 videos there is too little to learn 18 classes from.
LABEL = "action"
SEEDS = (0, 1, 2)
TRAINED, UNTRAINED = "trained", "untrained"


def annotate(folder: Path) -> int:
    """Write the ground truth of the untrimmed videos with one class; return the number of annotated moments."""
    truth = json.loads((folder / "mocap/untrimmed/activitynet.json").read_text())
    moments = [moment for video in truth["database"].values() for moment in video["annotations"]]
    for moment in moments:
        moment["label"] = LABEL
    (folder / "moments.json").write_text(json.dumps(truth))
    return len(moments)


def extract(folder: Path, checkpoints: Mapping[str, str], *, progress: Callable[[int, int], None]) -> None:
    """Extract features of the untrimmed videos, one folder an encoder.

    Args:
        folder: of the demonstration.
        checkpoints: run or file of each encoder.
        progress: called now and then with the number of videos that have features, over all encoders, and of all.
    """
    places = [features_of(folder, name) for name in checkpoints]
    total = len(places) * len(list((folder / "mocap/untrimmed/videos").iterdir()))

    def one(name: str) -> None:
        features = features_of(folder, name)
        shutil.rmtree(features, ignore_errors=True)
        videos = ["--videos", str(folder / "mocap/untrimmed/videos"), "--out", str(features), "--json"]
        words = ["--checkpoint", checkpoints[name], *videos, "--stride", "2"]
        _run([sys.executable, "launch/extract.py", *words])

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(one, name) for name in checkpoints]
        while wait(futures, timeout=1.0).not_done:
            progress(sum(len(list(place.glob("v_*.npy"))) for place in places), total)
        for future in futures:
            future.result()


def features_of(folder: Path, name: str) -> Path:
    """Return the folder of an encoder's features."""
    return folder / f"moments-features-{name}"


def run_of(folder: Path, name: str, seed: int) -> Path:
    """Return the folder of a head's run."""
    return folder / f"moments-run-{name}-{seed}"


def probe(folder: Path) -> dict[str, Any]:
    """Ask a linear probe for action against background; see :mod:`pal_ds.transfer.action_probe`."""
    features = [
        word
        for name in (TRAINED, UNTRAINED)
        for word in ("--features", f"{name}={features_of(folder, name)}")
    ]
    words = [*features, "--annotations", str(folder / "moments.json"), "--json"]
    found: dict[str, Any] = json.loads(_run([sys.executable, "-m", "pal_ds.transfer.action_probe", *words]))
    return found


def detect(
    folder: Path, *, epochs: int, progress: Callable[[int, int], None]
) -> dict[str, list[dict[str, Any]]]:
    """Train the same head on each encoder's features and score it on videos it hasn't seen.

    Args:
        folder: of the demonstration.
        epochs: of the head.
        progress: called with the number of heads that are trained, and of all.

    Returns:
        By encoder, one result a seed: what ``launch/transfer.py`` printed, and ``losses``, the head's training loss
        by epoch.
    """
    jobs = [(name, seed) for name in (TRAINED, UNTRAINED) for seed in SEEDS]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(_detect_one, folder, name, seed, epochs) for name, seed in jobs]
        for number, future in enumerate(as_completed(futures), 1):
            future.result()
            progress(number, len(jobs))
        results = [future.result() for future in futures]
    found: dict[str, list[dict[str, Any]]] = {TRAINED: [], UNTRAINED: []}
    for (name, _), result in zip(jobs, results, strict=True):
        found[name].append(result)
    return found


def describe_probe(found: Mapping[str, Any]) -> tuple[Section, list[str]]:
    """Return the report's section and lines for the console."""
    rows, lines = [], []
    for name in (TRAINED, UNTRAINED):
        row = found["features"][name]
        rows.append((name, round(row["within"], 1), _span(row["within_interval"]), round(row["pooled"], 1)))
        lines.append(f"{name:10} {row['within']:5.1f} [{_span(row['within_interval'])}]")
    gain, (low, high) = found["features"][TRAINED]["gain"], found["features"][TRAINED]["gain_interval"]
    verdict = _verdict(low, high)
    lines.append(f"difference {gain:+5.1f} [{low:+.1f} to {high:+.1f}]: {verdict}")
    text = (
        "Which moments of a video lie inside an action? A linear probe learns it on the frozen features of 48 "
        f"rendered, annotated videos and ranks the moments of {found['videos']} others; each video's mean feature is "
        "taken away, so that only changes within a video count. 50 is a guess. Trained less untrained: "
        f"{gain:+.1f} points, 95 % interval over videos {low:+.1f} to {high:+.1f}: {verdict}. With so few videos "
        "only large differences show; what pre-training does for localization takes more (benchmarks/evidence)."
    )
    table = Table(header=("features", "AUC within a video", "95 % interval", "AUC pooled"), rows=tuple(rows))
    return Section(title="Action against background", text=text, table=table), lines


def describe_detection(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Section, list[str]]:
    """Return the report's section and lines for the console."""
    thresholds = results[TRAINED][0]["figures"]["tiou"]
    header = (
        "features",
        *(f"mAP@{value:g}" for value in thresholds),
        "average",
        "seeds",
        "head's loss",
    )
    rows, lines = [], []
    averages = {}
    for name in (TRAINED, UNTRAINED):
        each = [float(result["figures"]["average_mAP"]) for result in results[name]]
        averages[name] = each
        maps = [
            sum(result["figures"]["mAP"][number] for result in results[name]) / len(each)
            for number in range(len(thresholds))
        ]
        first, last = (sum(result["losses"][end] for result in results[name]) / len(each) for end in (0, -1))
        span = f"{min(each):.1f} to {max(each):.1f}"
        mean = sum(each) / len(each)
        rows.append(
            (name, *(round(value, 1) for value in maps), round(mean, 1), span, f"{first:.2f} to {last:.2f}")
        )
        lines.append(
            f"{name:10} average mAP {mean:4.1f} (seeds {span}), head's loss {first:.2f} to {last:.2f}"
        )
    verdict = "trained is above untrained with every seed"
    if min(averages[TRAINED]) <= max(averages[UNTRAINED]):
        below = max(averages[TRAINED]) < min(averages[UNTRAINED])
        verdict = "trained is below untrained with every seed" if below else "no difference beyond the seeds"
    lines.append(verdict)
    text = (
        "A narrow G-TAD learns on 48 of these videos, from frozen features, where actions begin and end, and is "
        "scored on the others (pal-eval detection, in percent; all actions count as one class; means over three "
        f"seeds of the head). Result: {verdict}. It shows the way from a checkpoint to mAP; so few "
        "videos are too few to rank features by."
    )
    return Section(
        title="Temporal action detection", text=text, table=Table(header=header, rows=tuple(rows))
    ), lines


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return "better than untrained"
    return "worse than untrained" if high < 0 else "no difference shown"


def _span(interval: Sequence[float]) -> str:
    return f"{interval[0]:.1f} to {interval[1]:.1f}"


def _detect_one(folder: Path, name: str, seed: int, epochs: int) -> dict[str, Any]:
    run = run_of(folder, name, seed)
    shutil.rmtree(run, ignore_errors=True)
    settings = {
        "data.features": features_of(folder, name),
        "data.annotations": folder / "moments.json",
        "run.dir": run,
        "run.epochs": epochs,
        "run.seed": seed,
    }
    words = [f"{key}={value}" for key, value in settings.items()]
    command = ["launch/transfer.py", "--task", "tad", "--config", "configs/transfer/tad_demo_gtad.yaml"]
    found: dict[str, Any] = json.loads(_run([sys.executable, *command, *words]))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["losses"] = [row["loss"] for row in rows if "loss" in row]
    return found


def _run(words: list[str]) -> str:
    """Run one of the commands on one thread and return its standard output; its progress is shown if it fails."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(words[1:3])} ended with status {done.returncode}:\n{done.stderr[-1000:]}"
        )
    return done.stdout
