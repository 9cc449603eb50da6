"""The demonstration's end: a trained head finds the actions of one video that nothing was trained on, as a page."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from launch.demo.console import Console
from pal_ds.transfer.metrics.tiou import tiou
from pal_ds.viz.report_page import Section

#: Overlap from which a found action counts as right.
RIGHT_TIOU = 0.5


def localize_one(console: Console, folder: Path, *, encoder: str, head: Path) -> tuple[Section, str]:
    """Export a head with its encoder, and localize the first video of the validation part.

    Args:
        console: in a stage.
        folder: of the demonstration.
        encoder: that made the head's features.
        head: run of ``launch/transfer.py``.

    Returns:
        The report's section, and lines for the console.
    """
    model, out = folder / "localizer", folder / "localized"
    for old in (model, out):
        shutil.rmtree(old, ignore_errors=True)
    name, annotated = first_unseen(json.loads((folder / "moments.json").read_text()))
    command = ["launch/transfer.py", "export", str(head), "--encoder", encoder, "--out", str(model), "--json"]
    threshold = float(json.loads(console.run([sys.executable, *command]))["threshold"])
    video = folder / "mocap/untrimmed/videos" / f"v_{name}.mp4"
    words = [str(video), "--model", str(model), "--out", str(out), "--json"]
    console.run([sys.executable, "-m", "pal_ds.cli.localize", *words])
    rows = json.loads((out / "results.json").read_text())["results"][name]
    found = [row["segment"] for row in rows if row["score"] >= threshold]
    page = f"{out.name}/actions/{quote(name)}.html"
    text, line = describe(name, found, annotated)
    return Section(title="One unseen video", text=text, link=(page, "Its page")), f"{line}\n{folder / page}"


def first_unseen(truth: dict[str, Any]) -> tuple[str, list[list[float]]]:
    """Return the first video of the validation part, by name, and its annotated segments."""
    name = min(video for video, about in truth["database"].items() if about["subset"] == "validation")
    return name, [moment["segment"] for moment in truth["database"][name]["annotations"]]


def describe(
    name: str, found: Sequence[Sequence[float]], annotated: Sequence[Sequence[float]]
) -> tuple[str, str]:
    """Return the report's text and a line for the console."""
    right = right_ones(found, annotated)
    counts = (
        f"{len(found)} actions found, {len(annotated)} annotated, {right} of these found at tIoU {RIGHT_TIOU}"
    )
    text = (
        f"The first head trained above and its encoder, exported as one folder, were given {name}, the first of the "
        f"videos that the head was not trained on: {counts}. The score from which an action counts as found is the "
        "one with the best F1 on all of these videos, so it was chosen knowing their annotations. The page plays the "
        "video and seeks to the action that is clicked."
    )
    return text, f"One unseen video ({name}): {counts}. Its page:"


def right_ones(found: Sequence[Sequence[float]], annotated: Sequence[Sequence[float]]) -> int:
    """Return how many annotated segments some found one overlaps enough; each found one answers for one."""
    import numpy as np

    left = [list(map(float, span)) for span in found]
    right = 0
    for wanted in annotated:
        overlap = tiou(np.array(left).reshape(-1, 2), np.array(wanted, dtype=np.float64))
        if left and overlap.max() >= RIGHT_TIOU:
            left.pop(int(overlap.argmax()))
            right += 1
    return right
