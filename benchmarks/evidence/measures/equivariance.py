"""A moved, retimed action found again: ``python -m benchmarks.evidence.measures.equivariance``.

The longest action of a validation video is played faster and earlier, and slower and later, in a mirrored, paler
version of the video (the paper's Fig. 3). The stretch of that version most similar to the original action is compared
with its true place: their temporal IoU, the mean of both versions, a figure a video.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torchcodec.decoders import VideoDecoder

from benchmarks.evidence.measures.bootstrap import Share, measure
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.datasets.detection import read_detection
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.viz.similarity import MIRRORED, Encode, similarity_figure


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.measures.equivariance", description=__doc__
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--checkpoint", required=True, help="run folder, or what launch/extract.py takes")
    parser.add_argument("--videos", type=int, default=0, help="the first so many; 0 takes all")
    parser.add_argument("--out", type=Path, required=True, help="folder for equivariance.json")
    arguments = parser.parse_args(argv)
    annotations = read_detection(str(arguments.corpus / "untrimmed/activitynet.json"), "validation")
    annotations = annotations[: arguments.videos or None]
    backbone, spec = load_backbone(arguments.checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encode = ClipEncoder(backbone, spec, size=spec.size, device=device)
    rows = [
        overlap(arguments.corpus / f"untrimmed/videos/v_{one.video}.mp4", one, encode, spec.clip_frames)
        for one in annotations
    ]
    document = {
        name: measure(_share([row[column] for row in rows]), len(rows))
        for column, name in enumerate(("equivariance", "equivariance_chance"))
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "equivariance.json").write_text(json.dumps(document) + "\n")
    print(json.dumps({name: row["value"] for name, row in document.items()}))
    return 0


def overlap(
    video: Path, annotation: VideoAnnotation, encode: Encode, clip_frames: int
) -> tuple[float, float]:
    """Return the IoU, and that of a stretch drawn blindly; NaN where there is no action or no room to move it."""
    if not annotation.segments:
        return np.nan, np.nan
    longest = max(annotation.segments, key=lambda segment: segment.end - segment.start)
    decoder = VideoDecoder(str(video), seek_mode="exact", num_ffmpeg_threads=1)
    fps = float(decoder.metadata.average_fps or 0.0)
    try:
        figure = similarity_figure(
            lambda numbers: decoder.get_frames_at(indices=list(numbers)).data,
            frames=len(decoder),
            fps=fps,
            action=(longest.start, longest.end),
            encode=encode,
            clip_frames=clip_frames,
            alteration=MIRRORED,
        )
    except ValueError:  # it fills its video, or is too short to be played at twice the speed
        return np.nan, np.nan
    (comparisons,) = figure.comparisons.values()
    found = [(one.localised, one.localised_chance) for one in comparisons]
    return tuple(np.mean(found, axis=0).tolist())


def _share(values_v: Sequence[float]) -> Share:
    known = np.isfinite(values_v)
    return Share(np.where(known, values_v, 0.0), known.astype(float))


if __name__ == "__main__":
    sys.exit(main())
