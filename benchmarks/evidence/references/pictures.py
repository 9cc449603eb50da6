"""References that look at the pictures, and know nothing: thumbnails, and how much moves where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchcodec.decoders import VideoDecoder

from benchmarks.evidence.references.features import Clips, Rows

SIDE = 8
MOTION_NUMBERS = 6


def open_clips(path: Path, video: str, stride: int) -> tuple[Clips, torch.Tensor]:
    """Decode a video.

    Returns:
        Its clips, and its frames, uint8 [N, 3, H, W].
    """
    decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="exact")
    frames = len(decoder)
    clips = Clips(video=video, frames=frames, fps=float(decoder.metadata.average_fps or 0.0), stride=stride)
    return clips, decoder.get_frames_in_range(0, frames).data


def thumbnails(clips: Clips, frames_nchw: torch.Tensor) -> Rows:
    """Return the mean colours of each clip on an 8 x 8 grid, float32 [T, 192]: place and colour, no motion."""
    small = F.adaptive_avg_pool2d(frames_nchw.float() / 255, SIDE).flatten(1)
    return np.stack([small[span].mean(dim=0).numpy() for span in clips.spans()])


def motion(clips: Clips, frames_nchw: torch.Tensor) -> Rows:
    """Return six numbers of each clip's frame differences, float32 [T, 6].

    Mean and standard deviation over pixels of the mean absolute difference, its centre of gravity (column, row), and
    largest value and standard deviation over time of the frames' mean difference.
    """
    grey = frames_nchw.float().mean(dim=1) / 255
    moved = (grey[1:] - grey[:-1]).abs()
    rows = []
    for span in clips.spans():
        part = moved[span.start : max(span.start + 1, span.stop - 1)]
        if not len(part):  # a video of one frame
            rows.append(np.zeros(MOTION_NUMBERS, dtype=np.float32))
            continue
        field, over_time = part.mean(dim=0), part.mean(dim=(1, 2))
        mass = field / field.sum().clamp_min(1e-9)
        column = (mass.sum(dim=0) * torch.linspace(0, 1, field.shape[1])).sum()
        row = (mass.sum(dim=1) * torch.linspace(0, 1, field.shape[0])).sum()
        spread = over_time.std(unbiased=False)
        numbers = torch.stack([field.mean(), field.std(), column, row, over_time.max(), spread])
        rows.append(numbers.numpy())
    return np.stack(rows)
