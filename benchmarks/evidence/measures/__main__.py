"""Everything that one set of frozen features says: ``python -m benchmarks.evidence.measures``.

Writes ``measures.json``: for every figure its value on the evaluated videos, and its values on the bootstrap's draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.evidence.measures.bootstrap import Figure, measure
from benchmarks.evidence.measures.detections import detection_figures, proposal_figures
from benchmarks.evidence.measures.moments import moment_figures, read_moments
from benchmarks.evidence.measures.segments import read_segments, segment_figures
from benchmarks.evidence.measures.trimmed import read_clips, trimmed_figures
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.datasets.detection import read_detection


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.measures", description=__doc__)
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="pal-mocap, with trimmed and untrimmed videos")
    add("--untrimmed", required=True, help="features of the untrimmed videos")
    add("--trimmed", required=True, help="features of the trimmed clips")
    add("--gtad", type=Path, required=True, help="run of launch/transfer.py --task tad")
    add("--anchor-free", type=Path, required=True, help="the same with the anchor-free head")
    add("--proposals", type=Path, required=True, help="run of launch/transfer.py --task apg")
    add("--equivariance", type=Path, help="folder of benchmarks.evidence.measures.equivariance")
    add("--out", type=Path, required=True, help="folder for measures.json")
    arguments = parser.parse_args(argv)
    found = evaluate(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "measures.json").write_text(json.dumps(found) + "\n")
    print(json.dumps({name: row["value"] for name, row in found.items()}))
    return 0


def evaluate(arguments: argparse.Namespace) -> dict[str, dict[str, float | list[float]]]:
    """Return every figure, by name: ``value`` and ``draws``, in percent."""
    corpus: Path = arguments.corpus
    names = (corpus / "classes.txt").read_text().splitlines()
    truth = str(corpus / "untrimmed/activitynet.json")
    train, val = (read_detection(truth, subset) for subset in ("training", "validation"))
    store = FeatureStore(arguments.untrimmed)
    of_videos: dict[str, Figure] = {
        **moment_figures(read_moments(store, train), read_moments(store, val)),
        **segment_figures(
            read_segments(store, train, names), read_segments(store, val, names), len(val), len(names)
        ),
        **detection_figures(val, arguments.gtad / "predictions.json", "gtad"),
        **detection_figures(val, arguments.anchor_free / "predictions.json", "anchor_free"),
        **proposal_figures(val, arguments.proposals / "predictions.json"),
    }
    clips = FeatureStore(arguments.trimmed)
    sides = [read_clips(clips, corpus / f"trimmed/{split}.csv", names) for split in ("train", "val")]
    found = _drawn(of_videos, len(val)) | _drawn(
        trimmed_figures(sides[0], sides[1], len(names)), len(sides[1][1])
    )
    if arguments.equivariance:
        found |= json.loads((arguments.equivariance / "equivariance.json").read_text())
    return found


def _drawn(figures: Mapping[str, Figure], videos: int) -> dict[str, dict[str, float | list[float]]]:
    return {name: measure(figure, videos) for name, figure in figures.items()}


if __name__ == "__main__":
    sys.exit(main())
