"""Opens a video as training and extraction read it: which files are let through, which stream, which errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

from torchcodec.decoders import VideoDecoder

from pal_ds.formats.video_file import HEAD_BYTES, STILL_CODECS, has_index, is_container

Source = str | bytes | IO[bytes]
#: A file's streams are looked at up to this number.
_MOST_STREAMS = 64
_POSITION = re.compile(r"^\w+, \S+\.cpp:\d+, ")
REMEDY = "pal-shard build makes a clip of most such files"


class FrameError(ValueError):
    """A video without frames that can be sampled."""


class MisreadError(FrameError):
    """A video container that the decoder reads wrongly or not at all; another reader may do better.

    Attributes:
        reason: what is wrong, in one line.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; {REMEDY}")


def open_decoder(source: Source, *, threads: int) -> Any:
    """Open a video's main stream with an exact index.

    Args:
        source: local path, encoded bytes or a seekable file.
        threads: FFmpeg's decoding threads.

    Raises:
        FrameError: no container that holds its video itself (a playlist, text).
        MisreadError: one that the decoder can't read, or whose frames it doesn't find.
    """
    head = _head(source)
    if not is_container(head):
        raise FrameError("no video container by its first bytes; playlists and text are never opened")
    stream = main_stream(source)
    try:
        # Exact mode counts the frames that are there; headers lie (torchcodec issues #505, #165).
        decoder = VideoDecoder(
            _rewound(source), seek_mode="exact", num_ffmpeg_threads=threads, stream_index=stream
        )
        if len(decoder) and not has_index(head):
            _check_ends(decoder)
    except (RuntimeError, ValueError, IndexError) as error:
        raise error if isinstance(error, FrameError) else MisreadError(unreadable(error)) from error
    return decoder


def main_stream(source: Source) -> int | None:
    """Return the number of the stream with the largest picture; single pictures and their codecs come last.

    FFmpeg's own choice depends on flags and bit rates: a thumbnail track or a cover may come before the film. Of
    equal pictures the first one counts, as in the sharder.

    Returns:
        The stream's number in the container, or None where the decoder's own choice is all there is.
    """
    best, rank = None, (False, 0)
    for number in range(_MOST_STREAMS):
        try:
            decoder = VideoDecoder(_rewound(source), seek_mode="approximate", stream_index=number)
        except (RuntimeError, ValueError) as error:
            if "not a valid stream" in str(error):
                break
            continue
        about = decoder.metadata
        film = about.codec not in STILL_CODECS and about.num_frames_from_header != 1
        found = (film, (about.width or 0) * (about.height or 0))
        if found > rank:
            best, rank = number, found
    return best


def _check_ends(decoder: Any) -> None:
    """Make sure that the first and the last frame are where the index has them: seeking without one may miss."""
    about = decoder.metadata
    first, last = decoder.get_frame_at(0), decoder.get_frame_at(len(decoder) - 1)
    end = last.pts_seconds + last.duration_seconds
    slack = 0.5 * last.duration_seconds
    if (
        abs(first.pts_seconds - about.begin_stream_seconds) > slack
        or abs(end - about.end_stream_seconds) > slack
    ):
        raise MisreadError("its frames are not where its time stamps say")


def unreadable(error: Exception) -> str:
    """Return what a decoder's failure means for a user, in one line without its source positions."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    first = _POSITION.sub("", first)
    if "Expected pre-allocated tensor" in first:
        first = "its picture changes its size"
    return f"the decoder can't read it ({first[:160]})"


def _head(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    if isinstance(source, str):
        with Path(source).open("rb") as file:
            return file.read(HEAD_BYTES)
    source.seek(0)
    return source.read(HEAD_BYTES)


def _rewound(source: Source) -> Source:
    if not isinstance(source, (str, bytes)):
        source.seek(0)
    return source
