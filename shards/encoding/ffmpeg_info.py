"""What the installed ffmpeg is, and what it says about a source."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pal_ds.ffmpeg import probing
from pal_ds.ffmpeg.probing import TOOL_TIMEOUT, VideoInfo, error_line
from pal_ds.ffmpeg.process import Finished, ToolError, run_tool
from pal_ds.ffmpeg.reading import input_arguments

from ..errors import Rejected, UsageError
from .profiles import PROFILES

#: Ten hours at 30 frames a second are listed in this.
_LISTING_BYTES = 128 << 20


@functools.cache
def encoder_identity() -> dict[str, str]:
    """Return what decides the bytes of an encode: versions of ffmpeg, its libraries and x264, and a sample's hash.

    Raises:
        UsageError: ffmpeg or ffprobe is missing, or was built without libx264.
    """
    try:
        text = run_tool(["ffmpeg", "-version"], timeout=TOOL_TIMEOUT).stdout.decode("utf-8", "replace")
    except ToolError as error:
        raise UsageError(f"{error}: install ffmpeg (Debian: apt-get install ffmpeg)") from error
    if shutil.which("ffprobe") is None:
        raise UsageError("can't find ffprobe: install the whole of ffmpeg (Debian: apt-get install ffmpeg)")
    version = re.search(r"ffmpeg version (\S+)", text)
    configuration = re.search(r"configuration: (.*)", text)
    libraries = {
        name: "".join(numbers.split())
        for name, numbers in re.findall(r"lib(avcodec|avformat|avfilter|swscale)\s+([\d. ]+)/", text)
    }
    arguments = [
        *(
            "ffmpeg",
            "-hide_banner",
            "-nostdin",
            "-v",
            "info",
            "-f",
            "lavfi",
            "-i",
            "testsrc=s=192x144:r=10:d=1",
        ),
        *("-vf", PROFILES["fast"].filters(), *PROFILES["fast"].encoder()[:-4], "-f", "h264", "-"),
    ]
    sample = run_tool(arguments, timeout=TOOL_TIMEOUT, stdout_limit=4 << 20)
    x264 = re.search(rb"x264 - core (\d+(?: r\d+)?(?: [0-9a-fM]+)?)", sample.stdout)
    if sample.returncode != 0 or not sample.stdout or x264 is None:
        raise UsageError(f"this ffmpeg can't encode with libx264: {error_line(sample)}")
    return {
        "ffmpeg": version.group(1) if version else "unknown",
        **libraries,
        "configuration": hashlib.sha256(
            (configuration.group(1) if configuration else "").encode()
        ).hexdigest()[:16],
        "x264": x264.group(1).decode(),
        "sample_sha256": hashlib.sha256(sample.stdout).hexdigest(),
    }


def probe(path: Path, *, timeout: float = TOOL_TIMEOUT) -> VideoInfo:
    """Ask the container about its main video stream; cover pictures are none.

    Raises:
        Rejected: at stage ``probe``: not a video, damaged, or without a video stream.
    """
    with rejecting():
        return probing.probe(path, timeout=timeout)


def describe(path: Path, options: list[str], timeout: float) -> tuple[dict[str, Any], Finished]:
    """Return what ffprobe says of a file's streams and container, and how it ended.

    Raises:
        Rejected: at stage ``probe``: it can't be opened.
    """
    with rejecting():
        return probing.describe(path, options, timeout)


@contextlib.contextmanager
def rejecting() -> Iterator[None]:
    """Turn what ffprobe finds wrong with a file into the rejection of an input.

    Raises:
        Rejected: at stage ``probe``.
    """
    try:
        yield
    except probing.ProbeError as error:
        raise Rejected("probe", str(error)) from error


def list_frames(path: Path, stream: int, *, timeout: float) -> tuple[list[list[str]], list[list[str]]]:
    """Decode one stream to its end and list what is in it.

    Returns:
        Of every packet its time stamp and flags; of every frame that a decoder gives, its time stamp, width and
        height; as ffprobe prints them (``N/A`` where there is none).

    Raises:
        Rejected: at stage ``verify``: the decoder complains or ends early.
    """
    entries = "packet=pts,flags:frame=pts,width,height"
    options = ["-select_streams", str(stream), "-show_entries", entries, "-of", "compact=nk=1"]
    arguments = ["ffprobe", "-hide_banner", "-v", "error", *options, *input_arguments(str(path))]
    finished = run_tool(arguments, timeout=timeout, stdout_limit=_LISTING_BYTES)
    if finished.timed_out or finished.returncode != 0:
        raise Rejected("verify", error_line(finished, path))
    if finished.stderr.strip():
        raise Rejected("verify", f"does not decode cleanly: {error_line(finished, path)}")
    if len(finished.stdout) >= _LISTING_BYTES:
        raise Rejected("verify", "holds more frames than can be listed: cut it with a CSV of spans")
    lines = [line.split("|") for line in finished.stdout.decode("ascii", "replace").splitlines()]
    packets, frames = ([line[1:] for line in lines if line[0] == kind] for kind in ("packet", "frame"))
    return packets, frames
