"""Decodes clips to their ends before they are packed: what a record says is what a decoder yields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pal_ds.ffmpeg.probing import VideoInfo, error_line
from pal_ds.ffmpeg.process import run_tool
from pal_ds.ffmpeg.reading import input_arguments

from ..errors import Rejected
from . import ffmpeg_info
from .clip_filters import look_output

#: Containers that don't say where frames lie: seeking in them misses some, whichever decoder does it.
UNINDEXED = frozenset({"mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v"})
#: Frames, width, height and rate of a clip that was decoded to its end, or what is wrong with it.
Decoded: TypeAlias = tuple[int, int, int, float] | str


def decode_clips(paths: Sequence[Path], *, timeout: float, looks: bool = False) -> dict[Path, Decoded]:
    """Decode clips to their ends, several in one process, as starting one costs more than decoding a clip.

    Where anything goes wrong with several, each is looked at alone, so that a clip's result never depends
    on its neighbours.

    Args:
        paths: the clips.
        timeout: seconds that one process may take.
        looks: keep each clip's looks beside it (:mod:`clip_filters`): the same decoding gives them.
    """
    arguments = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-xerror"]
    for path in paths:
        # Long queues let each input's reader run once to its end instead of taking turns packet by packet.
        arguments += ["-thread_queue_size", "1024", *input_arguments(str(path))]
    for number, path in enumerate(paths):
        # Frames are counted and timed, not summed: handing on their addresses saves a third of the work.
        arguments += ["-map", f"{number}:v:0", "-fps_mode", "passthrough", "-c:v", "wrapped_avframe"]
        arguments += ["-f", "framecrc", "-y", f"file:{_listing(path)}"]
        if looks:
            arguments += ["-map", f"{number}:v:0", *look_output(path)]
    finished = run_tool(arguments, timeout=timeout)
    found = {path: _parse_framecrc(_listing(path)) for path in paths}
    sound = finished.returncode == 0 and not finished.timed_out and not finished.stderr.strip()
    if not sound and len(paths) > 1:
        return {path: decode_clips([path], timeout=timeout, looks=looks)[path] for path in paths}
    if not sound:
        return {paths[0]: f"does not decode: {error_line(finished, paths[0])}"}
    return found


def decode_copy(path: Path, *, timeout: float, info: VideoInfo | None = None) -> Decoded:
    """Decode a file that was not made here, and refuse what training would read otherwise than other decoders.

    Training asks for frames by number, and turns numbers into time by one rate. So a file must hold one film, of one
    size and square pixels, every frame of which has a time stamp of its own at a constant rate.

    Args:
        path: the file.
        timeout: seconds that one process may take.
        info: what its container says, where that has been asked already: a process less.
    """
    try:
        info = info or ffmpeg_info.probe(path, timeout=timeout)
        packets, frames = ffmpeg_info.list_frames(path, info.stream, timeout=timeout)
    except Rejected as rejected:
        return rejected.error
    odd = _odd_stream(info) or _odd_frames(info, packets, frames)
    return f"{odd}: use a transcoding profile" if odd else (len(frames), info.width, info.height, info.fps)


def _odd_stream(info: VideoInfo) -> str | None:
    if info.streams > 1:
        return f"holds {info.streams} video streams, of which decoders take different ones"
    if UNINDEXED & set(info.container.split(",")):
        return f"frames can't be sought by number in its container ({info.container})"
    if info.cover_first:
        return "holds a cover picture before the film"
    if abs(info.pixel_aspect - 1) > 1e-3:
        return f"its pixels are not square ({info.pixel_aspect:.3f})"
    return None


def _odd_frames(info: VideoInfo, packets: list[list[str]], frames: list[list[str]]) -> str | None:
    shown = [packet[0] for packet in packets if "D" not in packet[1]]
    # An edit list leaves packets out, which the container goes on counting; its duration doesn't.
    cut_short = info.frames not in (0, len(packets)) and abs(info.duration * info.fps - len(shown)) > 1
    if len(frames) != len(shown) or cut_short:
        return f"{len(frames)} of the {max(len(shown), info.frames)} frames promised can be decoded"
    sizes = list(dict.fromkeys((frame[1], frame[2]) for frame in frames))
    if len(sizes) > 1:
        first, second = ("x".join(size) for size in sizes[:2])
        return f"its picture changes its size from {first} to {second}"
    if "N/A" in shown:
        return "frames without a time stamp can't be numbered"
    times = sorted(map(int, shown))
    if len(set(times)) < len(times):
        return "several frames have the same time stamp"
    if len(times) > 2:
        step = (times[-1] - times[0]) / (len(times) - 1)
        # Clocks of some containers tick once a millisecond: what counts is whether a frame is out of its place.
        if any(abs(time - times[0] - number * step) > step / 2 for number, time in enumerate(times)):
            return "its frame rate varies"
    return None


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
