"""Small pictures of actions: a frame from the middle of each, as JPEG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchcodec.decoders import VideoDecoder

from pal_ds.ffmpeg.process import ToolError, run_tool
from pal_ds.storage.scratch import scratch_folder

WIDTH = 192
_QUALITY = "6"
_TIMEOUT_SECONDS = 60.0


def thumbnails(film: Path, seconds: Sequence[float]) -> list[str]:
    """Return a picture of each moment as a ``data:`` URI; all have one size.

    Frames are sought in the order of time, so that none is decoded twice, and held one at a time.

    Args:
        film: local file.
        seconds: from the first frame.

    Raises:
        ToolError: ffmpeg, which encodes them, can't be started or fails.
        RuntimeError: the decoder fails.
    """
    if not seconds:
        return []
    decoder = VideoDecoder(str(film), seek_mode="approximate", num_ffmpeg_threads=1)
    about = decoder.metadata
    begin, end = float(about.begin_stream_seconds or 0.0), float(about.end_stream_seconds or 0.0)
    aspect = float(about.pixel_aspect_ratio or 1.0) * about.width / about.height
    size = (max(2, 2 * round(WIDTH / aspect / 2)), WIDTH)
    order = sorted(range(len(seconds)), key=lambda place: seconds[place])
    with scratch_folder(prefix="pal-page-") as folder:
        raw = folder / "frames"
        with raw.open("wb") as file:
            for place in order:
                # The last moments of a file may have no frame of their own.
                moment = min(begin + seconds[place], max(begin, end - 0.05))
                frame_chw = decoder.get_frame_played_at(moment).data
                file.write(_resized(frame_chw, size).permute(1, 2, 0).contiguous().numpy().tobytes())
        pictures = _encode(raw, size, len(order))
    found = [""] * len(seconds)
    for place, data in zip(order, pictures, strict=True):
        found[place] = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return found


def _resized(frame_chw: Tensor, size: tuple[int, int]) -> Tensor:
    resized: Tensor = F.interpolate(frame_chw[None].contiguous(), size=size, mode="bilinear", antialias=True)[
        0
    ]
    return resized.to(torch.uint8)


def _encode(raw: Path, size: tuple[int, int], count: int) -> list[bytes]:
    height, width = size
    finished = run_tool(
        [
            *("ffmpeg", "-hide_banner", "-nostdin", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-s", f"{width}x{height}", "-i", f"file:{raw}", "-pix_fmt", "yuvj420p", "-q:v", _QUALITY),
            *("-f", "image2", "-y", f"file:{raw.parent}/%d.jpg"),
        ],
        timeout=_TIMEOUT_SECONDS,
    )
    pictures = [raw.parent / f"{number}.jpg" for number in range(1, count + 1)]
    if finished.returncode != 0 or not all(picture.exists() for picture in pictures):
        raise ToolError(f"ffmpeg can't write thumbnails: {finished.stderr.strip()[:200]}")
    return [picture.read_bytes() for picture in pictures]
