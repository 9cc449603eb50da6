"""Features of a reference for all videos of a corpus: ``python -m benchmarks.evidence.references``.

Writes ``OUT/untrimmed`` and ``OUT/trimmed``, on the time axis that launch/extract.py gives a network of 8 frames.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.evidence.references import pictures, truth
from benchmarks.evidence.references.features import Clips, Rows, Standard, write
from corpora.mocap.corpus_plan import SIZES, Video, plan
from corpora.mocap.motion.actions import ACTIONS
from corpora.mocap.video import compose, labels_of

REFERENCES = ("noise", "thumbnails", "motion", "pose", "one-hot")


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.references", description=__doc__)
    parser.add_argument("--reference", required=True, choices=REFERENCES)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--untrimmed-stride", type=int, required=True, help="frames between features")
    parser.add_argument("--trimmed-stride", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    recipe = json.loads((arguments.corpus / "corpus.json").read_text())
    strides = {"untrimmed": arguments.untrimmed_stride, "trimmed": arguments.trimmed_stride}
    for kind in strides:
        (arguments.out / kind).mkdir(parents=True, exist_ok=True)
    made = [
        (video, *_features(arguments.reference, arguments.corpus, video, recipe["seed"], strides[video.kind]))
        for video in plan(SIZES[recipe["size"]], recipe["seed"])
    ]
    seen = [values for video, _, values in made if (video.kind, video.split) == ("untrimmed", "train")]
    scale = Standard.of(np.concatenate(seen))
    for video, clips, values in made:
        write(arguments.out / video.kind, clips, scale(values), arguments.reference)
    return 0


def _features(name: str, corpus: Path, video: Video, seed: int, stride: int) -> tuple[Clips, Rows]:
    path = corpus / video.path
    known = path.stem.removeprefix("v_") if video.kind == "untrimmed" else path.stem
    if name in ("thumbnails", "motion"):
        clips, frames = pictures.open_clips(path, known, stride)
        look: Callable[[Clips, torch.Tensor], Rows] = getattr(pictures, name)
        return clips, look(clips, frames)
    act = compose(video, seed)
    labels = labels_of(video, act)
    clips = Clips(video=known, frames=labels.frames, fps=video.fps, stride=stride)
    if name == "noise":
        return clips, truth.noise(clips)
    if name == "pose":
        return clips, truth.pose(clips, video, seed, act)
    return clips, truth.one_hot(clips, labels.instances, [action.label for action in ACTIONS])


if __name__ == "__main__":
    sys.exit(main())
