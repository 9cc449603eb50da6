"""Is a moment of real footage found again? ``python -m benchmarks.evidence.real --footage DIR``.

The equivariance figure of the table (``measures/equivariance.py``) on the recordings of the demonstration, which are
fetched where they are missing: people dancing, playing, juggling, riding, filmed by others. They have no labels for
detection, but a moment that is played faster or slower and elsewhere in a mirrored, paler version has a known place.
Recordings are read at the rate and size of the corpus and cut into pieces; in each piece every few seconds a stretch
is looked for. Intervals are a bootstrap over recordings. Several checkpoints of one name are its seeds: their mean.
Prints a Markdown table, and writes every figure to ``--out``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torchcodec.decoders import VideoDecoder

from benchmarks.evidence.measures.bootstrap import Share, measure
from benchmarks.evidence.references.features import CLIP_FRAMES, Clips, Rows, Standard
from benchmarks.evidence.references.pictures import motion, thumbnails
from benchmarks.machine import commit, cores, processor
from corpora import footage
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.viz.similarity import MIRRORED, Encode, similarity_figure

#: Of pal-mocap's ``evidence``: frames a second, and pixels of the short side.
FPS, SIDE = 12, 64
#: Seconds: of a piece, of the shortest piece, of the stretch looked for, and from one stretch to the next.
PIECE, SHORTEST, STRETCH, EVERY = 20.0, 6.0, 3.0, 2.0
Values = NDArray[np.float64]


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.real", description=__doc__)
    parser.add_argument("--footage", type=Path, required=True, help="folder of the recordings, kept")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="run folder or exported backbone; the first name is what the others are compared with",
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON of every figure")
    arguments = parser.parse_args(argv)
    named = [item.partition("=") for item in arguments.checkpoint]
    if not all(mark and name and path for name, mark, path in named):
        parser.error("--checkpoint: use NAME=RUN, such as pal=runs/evidence/pretrain-pal-seed0")
    recordings = footage.fetch(arguments.footage, lambda text: print(text, file=sys.stderr))
    pieces = [
        (number, piece)
        for number, one in enumerate(recordings)
        for piece in read_pieces(arguments.footage / one.name)
    ]
    encoders: list[tuple[str, Encode]] = [
        (name, standardised(of, [piece for _, piece in pieces]))
        for name, of in (("thumbnails", thumbnails), ("six motion numbers", motion))
    ]
    encoders += [(name, network(path)) for name, _, path in named]
    figures = measured(pieces, encoders, [one.name for one in recordings])
    lines = table(figures, named[0][0] if named else "")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": f"{processor()}, {cores()} cores", "commit": commit(), "figures": figures}
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print("\n".join(lines))
    return 0


def read_pieces(path: Path) -> Iterator[torch.Tensor]:
    """Yield a recording's pieces at 12 frames a second and 64 pixels, uint8 [N, 3, H, W]; none if it is short."""
    decoder = VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1)
    rate = float(decoder.metadata.average_fps or 0.0) / FPS
    numbers = np.arange(int(len(decoder) / rate)) * rate
    for first in range(0, len(numbers), int(PIECE * FPS)):
        wanted = numbers[first : first + int(PIECE * FPS)].astype(int).tolist()
        if len(wanted) >= SHORTEST * FPS:
            yield torch.cat([_small(decoder.get_frames_at([number]).data) for number in wanted])


def _small(frames_nchw: torch.Tensor) -> torch.Tensor:
    height, width = frames_nchw.shape[2:]
    scale = SIDE / min(height, width)
    size = (round(height * scale), round(width * scale))
    return F.interpolate(frames_nchw, size=size, mode="bilinear", antialias=True)


def standardised(of: Callable[[Clips, torch.Tensor], Rows], pieces: list[torch.Tensor]) -> Encode:
    """Return a reference as an encoder, each of its numbers scaled by how much it varies over all pieces."""

    def rows(frames_nchw: torch.Tensor) -> Rows:
        return of(Clips(video="", frames=len(frames_nchw), fps=FPS, stride=CLIP_FRAMES), frames_nchw)

    standard = Standard.of(np.concatenate([rows(piece) for piece in pieces]))
    return lambda clips_btchw: torch.from_numpy(standard(rows(clips_btchw.flatten(0, 1))))


def network(path: str) -> Encode:
    """Return a run's frozen backbone as an encoder."""
    backbone, spec = load_backbone(path)
    return ClipEncoder(backbone, spec, size=spec.size, device=torch.device("cpu"))


def measured(
    pieces: list[tuple[int, torch.Tensor]], encoders: list[tuple[str, Encode]], recordings: list[str]
) -> dict[str, dict[str, object]]:
    """Return each encoder's mean IoU over stretches, bootstrapped over recordings; ``a guess`` is drawn blindly."""
    found: dict[str, list[list[float]]] = {}
    owners: list[int] = []
    for owner, piece in pieces:
        seconds = len(piece) / FPS
        for start in np.arange(0.0, seconds - STRETCH, EVERY).tolist():
            owners.append(owner)
            for number, (name, encode) in enumerate(encoders):
                value, guess = _overlap(piece, (start, start + STRETCH), encode)
                found.setdefault(name, []).append([float(len(owners) - 1), value])
                if not number:
                    found.setdefault("a guess", []).append([float(len(owners) - 1), guess])
    return {name: _figure(np.array(rows), owners, recordings) for name, rows in found.items()}


def _overlap(piece: torch.Tensor, stretch: tuple[float, float], encode: Encode) -> tuple[float, float]:
    figure = similarity_figure(
        piece, fps=FPS, action=stretch, encode=encode, clip_frames=CLIP_FRAMES, alteration=MIRRORED
    )
    (comparisons,) = figure.comparisons.values()
    found = np.mean([(one.localised, one.localised_chance) for one in comparisons], axis=0)
    return float(found[0]), float(found[1])


def _figure(rows: Values, owners: list[int], recordings: list[str]) -> dict[str, object]:
    """Average seeds, then stretches; ``draws`` are of recordings, equal for all names, so differences are paired."""
    count = len(owners)
    stretch, many = rows[:, 0].astype(int), len(recordings)
    value_s = np.bincount(stretch, rows[:, 1], count) / np.bincount(stretch, minlength=count)
    whole = np.bincount(owners, minlength=many).astype(float)
    share = Share(np.bincount(owners, value_s, many).astype(float), whole)
    return {**measure(share, many), "stretches": count, "recordings": len(set(owners))}


def table(figures: dict[str, dict[str, object]], against: str) -> list[str]:
    """Return the table in Markdown: each figure with its 95 % interval, and its difference from one of them."""
    lines = [f"| encoder | IoU | above {against or 'a guess'} |", "|---|---|---|"]
    base = figures[against or "a guess"]
    for name, figure in figures.items():
        draws, others = np.array(figure["draws"]), np.array(base["draws"])
        low, high = np.percentile(draws, [2.5, 97.5])
        gap = np.percentile(draws - others, [2.5, 97.5])
        by = float(figure["value"]) - float(base["value"])  # type: ignore[arg-type]  # a number, as measure returns it
        beside = "" if figure is base else f"{by:+.1f} [{gap[0]:+.1f}, {gap[1]:+.1f}]"
        lines.append(f"| {name} | {figure['value']:.1f} [{low:.1f}, {high:.1f}] | {beside} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
