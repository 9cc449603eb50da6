"""Does the place tell the action, or the body in it? ``python -m benchmarks.evidence.place --corpus DIR``.

Thumbnails (8 x 8 mean colours of a whole clip) with the class of trimmed clips as the answer, through the linear
probe of the table: once of the scenes as they are drawn, once of the same scenes without their actor. What is left of
the second above a guess is the place's, or the camera's that follows; the rest is the body's posture. Clips are drawn
at a low frame rate, which is enough for a mean. Writes nothing; prints a Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.evidence.measures.bootstrap import measure
from benchmarks.evidence.measures.trimmed import clip_id, trimmed_figures
from benchmarks.evidence.references.pictures import SIDE
from benchmarks.machine import cores
from corpora.mocap.corpus_plan import SIZES, Video, plan
from corpora.mocap.encode import Film
from corpora.mocap.rng import generator
from corpora.mocap.video import compose, draw

Rows = NDArray[np.float64]


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.place", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="pal-mocap, for its recipe")
    parser.add_argument("--fps", type=int, default=2, help="frames drawn a second (default: 2)")
    parser.add_argument("--workers", type=int, default=cores())
    arguments = parser.parse_args(argv)
    recipe = json.loads((arguments.corpus / "corpus.json").read_text())
    seed = int(recipe["seed"])
    videos = [video for video in plan(SIZES[recipe["size"]], seed) if video.kind == "trimmed"]
    known = set(_listed(arguments.corpus))
    if known != {Path(video.path).stem for video in videos}:
        sys.stderr.write(f"--corpus {arguments.corpus}: its clips are not those of its recipe\n")
        return 2
    names = sorted({video.labels[0] for video in videos})
    print("| thumbnails | TAC linear | TAC kNN |\n|---|---|---|")
    for title, empty in (("of the scene with its actor", False), ("of the same scene without", True)):
        found = figures(videos, names, seed, arguments.fps, empty=empty, workers=arguments.workers)
        print(f"| {title} | " + " | ".join(found) + " |")
        sys.stdout.flush()
    print(f"| a guess | {100 / len(names):.1f} % | {100 / len(names):.1f} % |")
    return 0


def figures(
    videos: list[Video], names: list[str], seed: int, fps: int, *, empty: bool, workers: int
) -> list[str]:
    """Return linear probe and neighbours on thumbnails of drawn clips, each with its 95 % interval."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    job = partial(thumbnail, seed=seed, fps=fps, empty=empty)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        values = np.stack(list(pool.map(job, videos, chunksize=16)))
    labels = np.array([names.index(video.labels[0]) for video in videos])
    train, val = (np.array([video.split == split for video in videos]) for split in ("train", "val"))
    sides = [(values[chosen], labels[chosen]) for chosen in (train, val)]
    found = []
    for figure in trimmed_figures(sides[0], sides[1], len(names)).values():
        drawn = measure(figure, int(val.sum()))
        low, high = np.percentile(drawn["draws"], [2.5, 97.5])
        found.append(f"{drawn['value']:.1f} [{low:.1f}, {high:.1f}] %")
    return found


def thumbnail(video: Video, *, seed: int, fps: int, empty: bool) -> Rows:
    """Return a clip's mean colours on an 8 x 8 grid, [192]; before any encoding."""
    act = compose(video, seed)
    video = dataclasses.replace(video, fps=fps)
    count = max(1, int(act.seconds * fps))
    look = Film.draw(generator(seed, video.id, "film"))
    strips = list(draw(video, seed, act, count, look, empty=empty))
    pixels = torch.from_numpy(np.concatenate(strips)).float() / 255
    mean: Rows = F.adaptive_avg_pool2d(pixels, SIDE).flatten(1).mean(dim=0).double().numpy()
    return mean


def _listed(corpus: Path) -> list[str]:
    found = []
    for split in ("train", "val"):
        with (corpus / f"trimmed/{split}.csv").open(newline="") as stream:
            found += [clip_id(row) for row in csv.DictReader(stream)]
    return found


if __name__ == "__main__":
    sys.exit(main())
