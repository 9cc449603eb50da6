"""One film out of a file of unknown origin, encoded anew: which stream, which frames, when it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pal_ds.ffmpeg.probing import probe, several_pictures
from pal_ds.ffmpeg.process import Finished, ToolError, run_tool
from pal_ds.ffmpeg.reading import input_arguments

#: ffmpeg gives up where more than this share of a source's packets can't be decoded.
MAX_ERROR_RATE = 0.1
_FIRST = "V:0"


def encode_film(
    source: Path,
    target: Path,
    *,
    filters: str,
    encoder: Sequence[str],
    timeout: float,
    start: float | None = None,
    seconds: float | None = None,
    stream: str = _FIRST,
) -> Finished:
    """Encode a file's film; where that fails, a part of ``target`` may be left.

    The first video stream is taken. Where the banner then shows several, the main one is looked for, and encoded
    if it is another: so a usual file costs no probe.

    Args:
        source: local file.
        target: file to write.
        filters: the filter graph, which must set the picture's size where that may change.
        encoder: the encoder's and muxer's arguments.
        timeout: seconds that a tool may work.
        start: where to begin, in seconds; None at the start.
        seconds: how much to take; None takes all.
        stream: ffmpeg's specifier of the stream.

    Returns:
        How ffmpeg ended; its banner is in ``stderr``.

    Raises:
        ToolError: ffmpeg can't be started, or the disk is full.
        ProbeError: the main one of several streams can't be told.
    """
    length = [] if seconds is None else ["-t", f"{seconds:.6f}"]
    arguments = [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "info"),
        # One filter graph from start to end: a new one where the picture's size changes would count time anew.
        *("-reinit_filter", "0"),
        *input_arguments(str(source), start=start),
        *length,
        *("-map", f"0:{stream}", "-an", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"),
        *("-max_error_rate", str(MAX_ERROR_RATE), "-filter_threads", "1", "-vf", filters),
        *encoder,
        *("-y", f"file:{target}"),
    ]
    finished = run_tool(arguments, timeout=timeout)
    if "No space left on device" in finished.stderr:
        raise ToolError("no space left in the scratch folder: set TMPDIR to a larger disk")
    if stream == _FIRST and several_pictures(finished.stderr):
        main = probe(source, timeout=timeout)
        if f"Stream #0:{main.stream} -> #0:0" not in finished.stderr:
            target.unlink(missing_ok=True)
            return encode_film(
                source,
                target,
                filters=filters,
                encoder=encoder,
                timeout=timeout,
                start=start,
                seconds=seconds,
                stream=str(main.stream),
            )
    return finished


def falls_short(seconds: float, promised: float) -> bool:
    """Tell whether much less of a film was decoded than its container promises, both in seconds."""
    return seconds < 0.9 * promised - 0.5
