"""Detection without names: the same detections, all actions one class, ``python -m benchmarks.fidelity.agnostic``.

With every class given to every proposal (``post.classes`` at least their number), the scores of a segment sum up to
the proposal's own, so nothing has to be trained again. It says where actions are, whatever the features know of what
they are.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from pal_ds.transfer.metrics.evaluate import evaluate

LABEL = "action"


def merge(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum the scores of each segment over its classes, in the order of first mention."""
    scores: dict[tuple[float, float], list[float]] = defaultdict(list)
    for row in rows:
        start, end = row["segment"]
        scores[start, end].append(row["score"])
    return [
        {"segment": list(segment), "score": math.fsum(parts), "label": LABEL}
        for segment, parts in scores.items()
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity.agnostic", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of launch/transfer.py --task tad")
    parser.add_argument("--ground-truth", type=Path, required=True, help="in ActivityNet's form")
    parser.add_argument("--out", type=Path, required=True, help="folder for agnostic.json")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    predictions = json.loads((arguments.run / "predictions.json").read_text())
    predictions["results"] = {video: merge(rows) for video, rows in predictions["results"].items()}
    truth = json.loads(arguments.ground_truth.read_text())
    for video in truth["database"].values():
        for annotation in video["annotations"]:
            annotation["label"] = LABEL
    files = {"truth.json": truth, "predictions.json": predictions}
    for name, content in files.items():
        (arguments.out / name).write_text(json.dumps(content))
    report = evaluate("detection", *(str(arguments.out / name) for name in files))
    (arguments.out / "agnostic.json").write_text(json.dumps(report.figures) + "\n")
    print(json.dumps(report.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
