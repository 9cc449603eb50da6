"""Is a moment of real footage found again? ``python -m benchmarks.evidence.real --footage DIR``.

The equivariance figure of the table (``measures/equivariance.py``) on the recordings of the demonstration, which are
fetched where they are missing: people dancing, playing, juggling, riding, filmed by others. They have no labels for
detection, but a moment that is played faster or slower and elsewhere in a mirrored, paler version has a known place.
Recordings are read at the rate and size of the corpus and cut into pieces; in each piece every few seconds a stretch
is looked for. What each encoder found is kept in a file of its own in ``--kept``; the table is of all files there:
seeds averaged, intervals from a bootstrap over recordings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchcodec.decoders import VideoDecoder

from benchmarks.evidence.measures.bootstrap import Share, measure
from benchmarks.evidence.references.features import CLIP_FRAMES, Clips, Rows, Standard
from benchmarks.evidence.references.pictures import motion, thumbnails
from benchmarks.evidence.stage import commit
from corpora import footage
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.viz.similarity import MIRRORED, Encode, similarity_figure

#: Of pal-mocap's ``evidence``: frames a second, and pixels of the short side.
FPS, SIDE = 12, 64
#: Seconds: of a piece, of the shortest piece, of the stretch looked for, and from one stretch to the next.
PIECE, SHORTEST, STRETCH, EVERY = 20.0, 6.0, 3.0, 2.0
KEPT = Path(__file__).parent / "kept/real"
GUESS = "a guess"
_SEED = re.compile(r"-seed\d+$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What one encoder found, stretch by stretch.

    Attributes:
        recordings: name of each stretch's recording [N].
        overlaps: temporal IoU of each stretch with what was found, 0 to 1 [N].
        guesses: the same of a place drawn blindly [N].
        commit: at which it was measured.
    """

    recordings: list[str]
    overlaps: list[float]
    guesses: list[float]
    commit: str


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.real", description=__doc__)
    parser.add_argument("--footage", type=Path, required=True, help="folder of the recordings, kept")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="run folder or exported backbone; a NAME that ends in -seed0, -seed1 ... is a seed of what is before",
    )
    parser.add_argument("--against", default="", metavar="NAME", help="what gaps are from (default: a guess)")
    parser.add_argument("--kept", type=Path, default=KEPT, help="what was found before (default: here)")
    arguments = parser.parse_args(argv)
    named = [item.partition("=") for item in arguments.checkpoint]
    if not all(mark and name and path for name, mark, path in named):
        parser.error("--checkpoint: use NAME=RUN, such as pal-seed0=runs/evidence/pretrain-pal-seed0-...")
    recordings = footage.fetch(arguments.footage, lambda text: print(text, file=sys.stderr))
    arguments.kept.mkdir(parents=True, exist_ok=True)
    pieces = [(one.name, piece) for one in recordings for piece in read_pieces(arguments.footage / one.name)]
    for name, build in _encoders(named, [piece for _, piece in pieces]):
        path = arguments.kept / f"{name}.json"
        if path.exists():
            print(f"{path}: kept from before; remove it to measure {name} again", file=sys.stderr)
        else:
            path.write_text(json.dumps(dataclasses.asdict(search(pieces, build()))) + "\n")
    files = sorted(arguments.kept.glob("*.json"))
    found = {path.stem: Found(**json.loads(path.read_text())) for path in files}
    for name, one in found.items():
        if one.recordings != next(iter(found.values())).recordings:
            parser.error(f"{arguments.kept / name}.json: of other recordings: give --kept a folder for these")
    figures = estimates(found)
    if arguments.against and arguments.against not in figures:
        parser.error(f"--against {arguments.against}: use one of {', '.join(figures)}")
    print("\n".join(table(figures, arguments.against or GUESS)))
    return 0


def _encoders(
    named: list[tuple[str, str, str]], pieces: list[torch.Tensor]
) -> Iterator[tuple[str, Callable[[], Encode]]]:
    """Yield the references and the networks asked for, each with what makes it."""
    for name, of in (("thumbnails", thumbnails), ("six motion numbers", motion)):
        yield name, partial(standardised, of, pieces)
    for name, _, path in named:
        yield name, partial(network, path)


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


def search(pieces: list[tuple[str, torch.Tensor]], encode: Encode) -> Found:
    """Look for every stretch of every piece; pieces come with the name of their recording."""
    found = Found(recordings=[], overlaps=[], guesses=[], commit=commit())
    for recording, piece in pieces:
        for start in np.arange(0.0, len(piece) / FPS - STRETCH, EVERY).tolist():
            overlap, guess = _overlap(piece, (start, start + STRETCH), encode)
            found.recordings.append(recording)
            found.overlaps.append(round(overlap, 5))
            found.guesses.append(round(guess, 5))
    return found


def _overlap(piece: torch.Tensor, stretch: tuple[float, float], encode: Encode) -> tuple[float, float]:
    figure = similarity_figure(
        piece, fps=FPS, action=stretch, encode=encode, clip_frames=CLIP_FRAMES, alteration=MIRRORED
    )
    (comparisons,) = figure.comparisons.values()
    found = np.mean([(one.localised, one.localised_chance) for one in comparisons], axis=0)
    return float(found[0]), float(found[1])


def estimates(found: Mapping[str, Found]) -> dict[str, dict[str, Any]]:
    """Return the mean IoU of every encoder in percent and its bootstrap draws over recordings.

    Draws are equal for all encoders, so differences are paired. Seeds of one encoder are averaged, and counted.
    """
    names = sorted({recording for one in found.values() for recording in one.recordings})
    values: dict[str, list[tuple[list[str], list[float]]]] = {}
    for name, one in found.items():
        values.setdefault(_SEED.sub("", name), []).append((one.recordings, one.overlaps))
    blind = next(iter(found.values()))
    values[GUESS] = [(blind.recordings, blind.guesses)]
    return {name: _estimate(seeds, names) for name, seeds in values.items()}


def _estimate(seeds: list[tuple[list[str], list[float]]], names: list[str]) -> dict[str, Any]:
    owner_n = np.array([names.index(one) for recordings, _ in seeds for one in recordings])
    value_n = np.concatenate([overlaps for _, overlaps in seeds])
    many = len(names)
    part, whole = (np.bincount(owner_n, each_n, many).astype(float) for each_n in (value_n, None))
    share = Share(part, whole)
    found = measure(share, many)
    return {**found, "seeds": len(seeds), "stretches": len(seeds[0][0]), "recordings": len(names)}


def table(figures: Mapping[str, Mapping[str, Any]], against: str) -> list[str]:
    """Return the table in Markdown: each figure with its 95 % interval, and its difference from one of them."""
    lines = [f"| encoder | seeds | IoU | above {against} |", "|---|---|---|---|"]
    base = figures[against]
    for name, figure in sorted(figures.items(), key=lambda item: float(item[1]["value"])):
        draws = np.array(figure["draws"])
        low, high = np.percentile(draws, [2.5, 97.5])
        gap = np.percentile(draws - np.array(base["draws"]), [2.5, 97.5])
        by = figure["value"] - base["value"]
        beside = "" if figure is base else f"{by:+.1f} [{gap[0]:+.1f}, {gap[1]:+.1f}]"
        seeds = "" if name == GUESS else str(figure["seeds"])
        lines.append(f"| {name} | {seeds} | {figure['value']:.1f} [{low:.1f}, {high:.1f}] | {beside} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
