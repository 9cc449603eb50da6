"""Loads a corpus' trimmed clips into memory, small and grey enough for one CPU core to learn from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchcodec.decoders import VideoDecoder

SIDE = 64
"""Pixels of the square that is kept of every frame."""

RATE = 12
"""Frames per second that are kept of faster videos."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """One split.

    Attributes:
        first_n3hw, middle_n3hw: first and middle frame of each clip, uint8 [N, 3, 64, 64].
        grey_nthw: every frame in grey, uint8 [N, T, 64, 64].
        labels_n: class numbers, int64 [N].
    """

    first_n3hw: Tensor
    middle_n3hw: Tensor
    grey_nthw: Tensor
    labels_n: Tensor


def load(corpus: Path, split: str) -> Clips:
    """Decode the clips of ``tac/<split>.csv``.

    Raises:
        ValueError: ``corpus`` isn't a finished corpus.
    """
    table = corpus / f"tac/{split}.csv"
    if not table.is_file():
        raise ValueError(f"corpus = {corpus}: no {table.name}; make it with python -m corpora.mocap")
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    firsts, middles, greys = [], [], []
    for row in rows:
        decoder = VideoDecoder(corpus / row["path"], num_ffmpeg_threads=1)
        frames = _square(decoder[:: max(1, round((decoder.metadata.average_fps or RATE) / RATE))])
        firsts.append(frames[0])
        middles.append(frames[len(frames) // 2])
        greys.append(frames.float().mean(dim=1).round().to(torch.uint8))
    return Clips(
        first_n3hw=torch.stack(firsts),
        middle_n3hw=torch.stack(middles),
        grey_nthw=torch.stack(greys),
        labels_n=torch.tensor([int(row["label_id"]) for row in rows]),
    )


def _square(frames_t3hw: Tensor) -> Tensor:
    """Cut the middle square out and shrink it: uint8 [T, 3, 64, 64]."""
    side = min(frames_t3hw.shape[-2:])
    top, left = ((length - side) // 2 for length in frames_t3hw.shape[-2:])
    cut = frames_t3hw[..., top : top + side, left : left + side].float()
    return F.interpolate(cut, size=(SIDE, SIDE), mode="area").round().to(torch.uint8)
