"""The demonstration's last step: from frozen features, trained and random, to an mAP table of action detection."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pal_ds.viz.report import Section, Table

ROOT = Path(__file__).resolve().parents[2]
#: What every annotated moment is called: with 6 videos there is too little to learn 18 classes from.
LABEL = "action"


def render_videos(folder: Path) -> int:
    """Make pal-mocap's untrimmed videos of size tiny, unless they are there, and annotate them with one class.

    Returns:
        Number of annotated moments.
    """
    corpus = folder / "mocap"
    words = ["--size", "tiny", "--only", "untrimmed", "--out", str(corpus), "--json"]
    _run([sys.executable, "-m", "benchmarks.mocap", *words])
    truth = json.loads((corpus / "untrimmed/activitynet.json").read_text())
    moments = [moment for video in truth["database"].values() for moment in video["annotations"]]
    for moment in moments:
        moment["label"] = LABEL
    (folder / "moments.json").write_text(json.dumps(truth))
    return len(moments)


def detect(folder: Path, encoders: Mapping[str, Sequence[str]], *, epochs: int) -> dict[str, dict[str, Any]]:
    """Extract features with each encoder, train the same head on them, and score it on videos it hasn't seen.

    Args:
        folder: of the demonstration.
        encoders: by name, words of ``launch/extract.py`` that give the checkpoint.
        epochs: of the head.

    Returns:
        By name, what ``launch/transfer.py`` printed.
    """
    with ThreadPoolExecutor(len(encoders)) as pool:
        jobs = {
            name: pool.submit(_detect_one, folder, number, words, epochs)
            for number, (name, words) in enumerate(encoders.items())
        }
        return {name: job.result() for name, job in jobs.items()}


def describe(results: dict[str, dict[str, Any]]) -> tuple[Section, str]:
    """Return the report's section and the same table as text for the console."""
    thresholds = next(iter(results.values()))["figures"]["tiou"]
    header = ("features", *(f"mAP at tIoU {value:g}" for value in thresholds), "average")
    rows = tuple(
        (
            name,
            *(round(value, 1) for value in result["figures"]["mAP"]),
            round(result["figures"]["average_mAP"], 1),
        )
        for name, result in results.items()
    )
    text = (
        "Rendered motion capture with every action annotated: a narrow G-TAD learns on 6 videos, from frozen "
        "features, where actions begin and end, and is scored on 4 others (pal-eval detection, in percent). All "
        "actions count as one class. It shows that the road from checkpoint to mAP works; 4 videos are far too few "
        "to rank features by, and these encoders never saw rendered people. The honest comparison is "
        "benchmarks/fidelity."
    )
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'':{width}}  " + "  ".join(f"@{value:g}" for value in thresholds) + "  average"]
    lines += [f"{name:{width}}  " + "  ".join(f"{value:4.1f}" for value in values) for name, *values in rows]
    return Section(
        title="Temporal action detection", text=text, table=Table(header=header, rows=rows)
    ), "\n".join(lines)


def _detect_one(folder: Path, number: int, words: Sequence[str], epochs: int) -> dict[str, Any]:
    features, run = folder / f"moments-features-{number}", folder / f"moments-run-{number}"
    for old in (features, run):
        shutil.rmtree(old, ignore_errors=True)
    videos = ["--videos", str(folder / "mocap/untrimmed/videos"), "--out", str(features), "--json"]
    _run([sys.executable, "launch/extract.py", *words, *videos])
    settings = {
        "data.features": features,
        "data.annotations": folder / "moments.json",
        "run.dir": run,
        "run.epochs": epochs,
    }
    head = [
        "--task",
        "tad",
        "--config",
        "configs/transfer/tad_demo_gtad.yaml",
        *(f"{k}={v}" for k, v in settings.items()),
    ]
    found: dict[str, Any] = json.loads(_run([sys.executable, "launch/transfer.py", *head]))
    return found


def _run(words: list[str]) -> str:
    """Run one of the commands on one thread and return its standard output; its progress is shown if it fails."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise RuntimeError(
            f"{Path(words[1]).name} ended with status {done.returncode}:\n{done.stderr[-1000:]}"
        )
    return done.stdout
