"""What ffmpeg and ffprobe say about a file."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from pal_ds.ffmpeg.process import Finished, run_tool
from pal_ds.ffmpeg.reading import input_arguments
from pal_ds.formats.video_file import STILL_CODECS

_ADDRESS = re.compile(r"\[([^\[\]@]*?)( @ 0x[0-9a-fA-F]+)\] ?")
_HEX = re.compile(r"0x[0-9a-fA-F]{6,}")
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_VIDEO_STREAM = re.compile(r"^\s*Stream #0:\d+.*?: Video: ", re.MULTILINE)
#: Seconds that a look at a file may take.
TOOL_TIMEOUT = 60.0


class ProbeError(ValueError):
    """A file that is no video, is damaged, or has no video stream: one line without paths and addresses."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a container says of its main video stream: the largest picture, of equal ones the first.

    Attributes:
        codec: codec name.
        width: pixels, after rotation.
        height: pixels, after rotation.
        fps: average frame rate, 0 where unknown.
        frames: frames promised by the container, or counted where asked; 0 where unknown.
        duration: seconds of the video stream, else of the container; 0 where unknown.
        b_frames: the stream reorders frames.
        container: the demuxer's names.
        stream: its number in the container.
        streams: how many video streams that are no cover pictures the container holds.
        pixel_aspect: width of a pixel divided by its height.
        cover_first: a cover picture comes before it in the container.
    """

    codec: str
    width: int
    height: int
    fps: float
    frames: int
    duration: float
    b_frames: bool
    container: str
    stream: int = 0
    streams: int = 1
    pixel_aspect: float = 1.0
    cover_first: bool = False


def probe(path: Path, *, timeout: float = TOOL_TIMEOUT) -> VideoInfo:
    """Ask the container about its main video stream; cover pictures are none.

    Raises:
        ProbeError: not a video, damaged, or without a video stream.
    """
    document, _ = describe(path, [], timeout)
    return _video_info(document)


def several_pictures(stderr: str) -> bool:
    """Tell from ffmpeg's banner whether its first input has more than one video stream, covers counted."""
    return len(_VIDEO_STREAM.findall(stderr.partition("Stream mapping:")[0].partition("Output #0")[0])) > 1


def source_seconds(stderr: str) -> float | None:
    """Return the duration that ffmpeg's banner gives for its first input, in seconds."""
    found = _DURATION.search(stderr)
    if not found:
        return None
    return int(found.group(1)) * 3600 + int(found.group(2)) * 60 + float(found.group(3))


def error_line(finished: Finished, path: Path | None = None) -> str:
    """Return the first telling line of a failed tool, without addresses and paths."""
    if finished.timed_out:
        return "timed out"
    if finished.returncode < 0:
        return f"killed by signal {-finished.returncode}"
    lines = [_clean(line, path) for line in finished.stderr.splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or [f"exit status {finished.returncode}"])[0][:200]


_TELLING = re.compile(
    r"error|invalid|not found|no such|denied|could not|cannot|unsupported|corrupt|missing|truncat|matches no|fail",
    re.IGNORECASE,
)


def _clean(line: str, path: Path | None) -> str:
    if path is not None:
        for shown in (f"file:{path}", str(path)):
            line = line.replace(shown.encode("utf-8", "replace").decode(), "input").replace(shown, "input")
    return _HEX.sub("0x", _ADDRESS.sub(r"[\1] ", line)).strip()


def describe(path: Path, options: list[str], timeout: float) -> tuple[dict[str, Any], Finished]:
    """Return what ffprobe says of a file's streams and container, and how it ended.

    Raises:
        ProbeError: it can't be opened.
    """
    arguments = [
        *("ffprobe", "-hide_banner", "-v", "error", *options, "-show_streams", "-show_format", "-of", "json"),
        *input_arguments(str(path)),
    ]
    finished = run_tool(arguments, timeout=timeout, stdout_limit=4 << 20)
    if finished.timed_out or finished.returncode != 0:
        raise ProbeError(error_line(finished, path))
    try:
        document = json.loads(finished.stdout.decode("utf-8", "replace"))
    except ValueError as error:
        raise ProbeError("ffprobe gave no description") from error
    return document, finished


def _video_info(document: dict[str, Any]) -> VideoInfo:
    streams = [
        stream
        for stream in document.get("streams", [])
        if stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")
    ]
    if not streams:
        kinds = sorted({str(stream.get("codec_type")) for stream in document.get("streams", [])})
        raise ProbeError(f"no video stream (found: {', '.join(kinds) or 'nothing'})")
    stream = max(streams, key=_rank)
    width, height = int(stream.get("width") or 0), int(stream.get("height") or 0)
    rotations = [int(float(side.get("rotation", 0))) for side in stream.get("side_data_list", [])]
    if any(rotation % 180 for rotation in rotations):
        width, height = height, width
    return VideoInfo(
        codec=str(stream.get("codec_name", "unknown")),
        width=width,
        height=height,
        fps=_ratio(stream.get("avg_frame_rate")) or _ratio(stream.get("r_frame_rate")),
        frames=int(stream.get("nb_read_frames") or stream.get("nb_frames") or 0),
        duration=_seconds(stream.get("duration"))
        or _tag_seconds(stream.get("tags", {}))
        or _seconds(document.get("format", {}).get("duration")),
        b_frames=bool(stream.get("has_b_frames")),
        container=str(document.get("format", {}).get("format_name", "")),
        stream=int(stream.get("index") or 0),
        streams=len(streams),
        cover_first=any(
            other.get("disposition", {}).get("attached_pic") and other["index"] < stream["index"]
            for other in document["streams"]
        ),
        pixel_aspect=_ratio(str(stream.get("sample_aspect_ratio", "1:1")).replace(":", "/")) or 1.0,
    )


def _rank(stream: dict[str, Any]) -> tuple[bool, int]:
    film = stream.get("codec_name") not in STILL_CODECS and str(stream.get("nb_frames")) != "1"
    return film, int(stream.get("width") or 0) * int(stream.get("height") or 0)


def _ratio(text: Any) -> float:
    numerator, _, denominator = str(text or "0/1").partition("/")
    try:
        return float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        return 0.0


def _seconds(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0


def _tag_seconds(tags: dict[str, Any]) -> float:
    """Matroska keeps a stream's duration in a tag, as hours:minutes:seconds."""
    parts = str(next((tags[name] for name in tags if name.upper() == "DURATION"), "")).split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return 0.0
    return hours * 3600 + minutes * 60 + seconds
