"""Decodes clips to their ends before they are packed: what a record says is what a decoder yields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from shards import ffmpeg
from shards.errors import Rejected
from shards.process import run_tool
from shards.profiles import input_arguments

#: Frames, width, height and rate of a clip that was decoded to its end, or what is wrong with it.
Decoded: TypeAlias = tuple[int, int, int, float] | str


def decode_clips(paths: Sequence[Path], *, timeout: float) -> dict[Path, Decoded]:
    """Decode clips to their ends, several in one process, as starting one costs more than decoding a clip.

    Where anything goes wrong with several, each is looked at alone, so that a clip's result never depends
    on its neighbours.
    """
    arguments = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-xerror"]
    for path in paths:
        # Long queues let each input's reader run once to its end instead of taking turns packet by packet.
        arguments += ["-thread_queue_size", "1024", *input_arguments(str(path))]
    for number, path in enumerate(paths):
        # Frames are counted and timed, not summed: handing on their addresses saves a third of the work.
        arguments += ["-map", f"{number}:v:0", "-fps_mode", "passthrough", "-c:v", "wrapped_avframe"]
        arguments += ["-f", "framecrc", "-y", f"file:{_listing(path)}"]
    finished = run_tool(arguments, timeout=timeout)
    found = {path: _parse_framecrc(_listing(path)) for path in paths}
    sound = finished.returncode == 0 and not finished.timed_out and not finished.stderr.strip()
    if not sound and len(paths) > 1:
        return {path: decode_clips([path], timeout=timeout)[path] for path in paths}
    if not sound:
        return {paths[0]: f"does not decode: {ffmpeg.error_line(finished, paths[0])}"}
    return found


def decode_copy(path: Path, *, timeout: float) -> Decoded:
    """Decode a file that was not made here, and compare with what its container promises."""
    try:
        info = ffmpeg.count_frames(path, timeout=timeout)
        promised = ffmpeg.probe(path, timeout=timeout).frames
    except Rejected as rejected:
        return rejected.error
    if promised and promised != info.frames:
        return f"{info.frames} of the {promised} frames promised can be decoded"
    return info.frames, info.width, info.height, info.fps


def _listing(path: Path) -> Path:
    return path.with_name(path.name + ".crc")


def _parse_framecrc(listing: Path) -> Decoded:
    """Read ffmpeg's list of decoded frames, remove it, and check that the rate is constant."""
    frames, width, height, fps = 0, 0, 0, 0.0
    if not listing.exists():
        return "no frame"
    for line in listing.read_text().splitlines():
        if line.startswith("#tb 0:"):
            numerator, _, denominator = line.split(":")[1].strip().partition("/")
            fps = int(denominator) / int(numerator)
        elif line.startswith("#dimensions 0:"):
            sides = line.split(":")[1].strip().split("x")
            width, height = int(sides[0]), int(sides[1])
        elif not line.startswith("#"):
            if int(line.split(",")[2]) != frames:
                return f"frame {frames} is out of step: not a constant rate"
            frames += 1
    listing.unlink()
    return frames, width, height, fps
