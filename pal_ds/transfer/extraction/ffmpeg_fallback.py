"""Films that the decoder reads wrongly or not at all, read through ffmpeg instead, as ``pal-shard build`` reads them.

Which stream is the film, where its time starts and which frames lie on an even clock is decided by the sharder's own
code, so that both find the same frames. They are kept without loss in a scratch file for as long as it takes.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pal_ds.ffmpeg.encoding import encode_film, falls_short
from pal_ds.ffmpeg.probing import ProbeError, error_line, probe, source_seconds
from pal_ds.ffmpeg.reading import MOST_RATE, constant_rate
from pal_ds.storage.scratch import scratch_folder
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.video_opening import FrameError, MisreadError, Source

T = TypeVar("T")
logger = logging.getLogger("pal_ds.transfer")

#: ffmpeg may work this long on a film, in seconds, and this many seconds more for each of the film's own.
TIMEOUT_SECONDS = 600.0
_SECONDS_PER_SECOND = 4.0
#: The shorter side of a kept picture where nobody asks for less, in pixels (the sharder's own limit).
_MOST_SIDE = 4320
_COPY_BYTES = 4 << 20


def with_frames(
    open_source: Callable[[], Source],
    work: Callable[[FrameStream], T],
    *,
    name: str,
    fps: float = 0.0,
    threads: int = 1,
    side: int = 0,
) -> T:
    """Do ``work`` with a video's frames; from its start again, through ffmpeg, where the decoder misreads them.

    Some files show only on the way that they are read wrongly, so ``work`` may be begun twice.

    Args:
        open_source: gives what the video is read from; called again for the second reading.
        work: what to do with the frames.
        name: the video in the log line that says it was read through ffmpeg, and why.
        fps: frames per second to sample at; 0 takes every frame, and through ffmpeg at most ``MOST_RATE`` a second,
            as a build does.
        threads: FFmpeg's threads.
        side: where ffmpeg has to keep pictures, it makes their shorter side at most so many pixels; 0 for their own.

    Returns:
        What ``work`` returns.

    Raises:
        FrameError: neither can read it, or there is no ffmpeg.
        ToolError: no space is left for the scratch file.
        StorageError: ``open_source`` or a read from it fails.
    """
    try:
        return work(FrameStream(open_source(), fps=fps, threads=threads))
    except MisreadError as error:
        misread = error
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        raise FrameError(
            f"{misread.reason}; ffmpeg would read most such files: install it (Debian: apt-get install ffmpeg)"
        ) from misread
    with scratch_folder(prefix="pal-film-") as folder:
        film = folder / "film.mp4"
        with _local(open_source(), folder) as path:
            try:
                promised = _encode(path, film, max(fps, MOST_RATE), threads, side)
                stream = FrameStream(str(film), fps=fps, threads=threads)
            except (ProbeError, FrameError) as error:
                raise FrameError(f"{misread.reason}; ffmpeg can't read it either ({error})") from error
            if falls_short(stream.duration, promised):
                raise FrameError(
                    f"{misread.reason}; only {stream.duration:.1f} of {promised:.1f} s can be decoded: truncated?"
                )
        logger.warning("%s: read through ffmpeg, since %s", name, misread.reason)
        return work(stream)


def _encode(path: Path, film: Path, most: float, threads: int, side: int) -> float:
    """Encode the film of a file without loss; return the seconds that its container promises, 0 where unknown."""
    info = probe(path)
    timeout = TIMEOUT_SECONDS + _SECONDS_PER_SECOND * info.duration
    encoder = [
        *("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-g", "32", "-bf", "0"),
        *("-threads", str(threads), "-f", "mp4"),
    ]
    finished = encode_film(path, film, filters=_filters(most, side), encoder=encoder, timeout=timeout)
    if finished.returncode != 0 or finished.timed_out:
        raise FrameError(error_line(finished, path))
    # Sound may last longer than the picture: where the container's own length is more, the stream's counts.
    return min(source_seconds(finished.stderr) or info.duration, info.duration)


def _filters(most: float, side: int) -> str:
    """Return the sharder's filter graph, but for the picture's size, which is kept up to ``side``."""
    high, wide = (f"min({own},{side or _MOST_SIDE})" for own in ("ih", "iw*sar"))
    return (
        f"{constant_rate(most)},scale=w='2*max(1,round(if(gt(dar,1),{high}*dar,{wide})/2))'"
        f":h='2*max(1,round(if(gt(dar,1),{high},{wide}/dar)/2))':flags=bicubic,setsar=1,format=yuv420p"
    )


@contextlib.contextmanager
def _local(source: Source, folder: Path) -> Iterator[Path]:
    """Give ffmpeg a local file to read a source from, for as long as the block lasts."""
    if isinstance(source, str):
        yield Path(source)
        return
    path = folder / "source"
    with path.open("wb") as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            source.seek(0)
            shutil.copyfileobj(source, file, _COPY_BYTES)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
