"""What training does to a clip: the frames one PAL sample needs, and what decoding them costs."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping


def indices(frames: int, seed: int) -> list[int]:
    """Return the frames of 8 clips of 8, stride 1 to 4, spread over a video of ``frames`` frames."""
    dice = random.Random(seed)
    found: set[int] = set()
    for place in range(8):
        stride = dice.randint(1, 4)
        start = min(max(0, frames - 7 * stride - 1), place * frames // 8)
        found.update(min(frames - 1, start + stride * step) for step in range(8))
    return sorted(found)


def decode_milliseconds(videos: Mapping[str, bytes], passes: int) -> dict[str, float]:
    """Return CPU milliseconds to open each video and decode one sample's frames, on one thread with torchcodec.

    Args:
        videos: encoded files by name.
        passes: over all of them in turns; the best of each counts, over four draws of the frames.
    """
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    best: dict[tuple[str, int], float] = {}
    for number in range(passes):
        draw = number % 4
        for name, data in videos.items():
            started = time.process_time()
            decoder = VideoDecoder(data, num_ffmpeg_threads=1)
            decoder.get_frames_at(indices(len(decoder), draw))
            spent = 1000 * (time.process_time() - started)
            best[name, draw] = min(spent, best.get((name, draw), spent))
    draws = min(4, passes)
    return {name: sum(best[name, draw] for draw in range(draws)) / draws for name in videos}
