"""``--copy-if-conforming``: tells whether a source is already what the recipe would make of it.

What encoding would change must not be there to change: anything but one H.264 stream in MP4, 8-bit 4:2:0, square
pixels, upright, progressive, without B-frames, of exactly the recipe's short side with even sides, at a constant rate
up to the recipe's that starts at time 0, with a key frame at least every GOP. Its quality, and whether its entropy
coding is the fast one, can't be told from outside and are taken as they are.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import Rejected
from . import ffmpeg_info
from .profiles import Profile


def mismatch(path: Path, profile: Profile, *, timeout: float) -> str | None:
    """Return the first thing in which a file differs from the recipe, or None where it conforms.

    Args:
        path: the file.
        profile: the recipe's encoding.
        timeout: seconds that looking at it may take.
    """
    try:
        document, _ = ffmpeg_info.describe(path, ["-select_streams", "V:0"], timeout)
        found = _stream_mismatch(document, profile)
        if found is not None:
            return found
        options = ["-select_streams", "V:0", "-show_entries", "packet=pts,flags"]
        packets, _ = ffmpeg_info.describe(path, options, timeout)
    except Rejected as rejected:
        return rejected.error
    return _timing_mismatch(packets.get("packets", []), document["streams"][0], profile)


def _stream_mismatch(document: dict[str, Any], profile: Profile) -> str | None:
    if not document.get("streams"):
        return "no video stream"
    stream, container = document["streams"][0], document.get("format", {})
    sides = int(stream.get("width") or 0), int(stream.get("height") or 0)
    rotated = any(int(float(side.get("rotation", 0))) for side in stream.get("side_data_list", []))
    wanted = {
        "container": "mp4" in str(container.get("format_name")).split(","),
        "one stream": container.get("nb_streams") == 1,
        "codec": stream.get("codec_name") == "h264",
        "pixel format": stream.get("pix_fmt") == "yuv420p",
        "square pixels": stream.get("sample_aspect_ratio", "1:1") in ("1:1", "0:1"),
        "progressive": stream.get("field_order", "progressive") in ("progressive", "unknown"),
        "upright": not rotated,
        "no B-frames": not stream.get("has_b_frames"),
        "even sides": not (sides[0] % 2 or sides[1] % 2),
        "short side": min(sides) == profile.short_side,
    }
    return next((name for name, holds in wanted.items() if not holds), None)


def _timing_mismatch(packets: list[dict[str, Any]], stream: dict[str, Any], profile: Profile) -> str | None:
    """Check rate and key frames packet by packet: averages hide what varies."""
    times = [int(packet["pts"]) for packet in packets if "pts" in packet]
    keys = [number for number, packet in enumerate(packets) if "K" in str(packet.get("flags"))]
    if (
        len(times) != len(packets)
        or len(times) < 2
        or times[0] != 0
        or any("D" in str(packet.get("flags")) for packet in packets)
    ):
        return "starts at time 0"
    step = Fraction(times[-1], len(times) - 1)
    rate = 1 / (step * Fraction(stream["time_base"])) if step > 0 else Fraction(0)
    # A coarse clock rounds every time stamp by less than one of its ticks.
    if rate <= 0 or any(abs(time - number * step) >= 1 for number, time in enumerate(times)):
        return "constant rate"
    if rate > Fraction(profile.fps) + Fraction(1, 1000):
        return "frame rate"
    gaps = [after - before for before, after in zip(keys, [*keys[1:], len(times)], strict=True)]
    if not keys or keys[0] != 0 or max(gaps) > profile.gop:
        return "key frames"
    return None
