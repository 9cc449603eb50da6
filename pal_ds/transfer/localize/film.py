"""What a page plays: the video itself by a relative link, a copy beside the page, or the bytes in the page.

Browsers play few formats. A video in another one is encoded anew, small, with ffmpeg.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchcodec.decoders import VideoDecoder

from pal_ds import storage
from pal_ds.ffmpeg.encoding import encode_film
from pal_ds.ffmpeg.probing import ProbeError, describe, error_line, probe
from pal_ds.ffmpeg.process import ToolError
from pal_ds.ffmpeg.reading import MOST_RATE, constant_rate
from pal_ds.storage.scratch import scratch_folder
from pal_ds.transfer.extraction.video_opening import Source, main_stream
from pal_ds.transfer.extraction.video_source import VideoRef, open_video
from pal_ds.transfer.localize.templating import link

#: A page holds a video up to this many bytes.
EMBED_BYTES = 16 << 20
#: The shorter side of an encoded copy, in pixels.
COPY_SIDE = 360
_COPY_BYTES = 4 << 20
_TIMEOUT_SECONDS = 600.0
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg"}
#: Codecs that browsers play, by a name of the demuxer, with the ending of such a file.
_PLAYED = {
    "mp4": (".mp4", {"h264", "vp9", "av1"}),
    "webm": (".webm", {"vp8", "vp9", "av1"}),
}


class FilmError(RuntimeError):
    """No browser plays the video, and no copy can be made: the page goes without a player."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Film:
    """A local file that browsers play.

    Attributes:
        path: of the file; may be gone when the block of :func:`playable` ends.
        ending: what such a file's name ends with.
        original: whether it is the video itself, at its own place.
        begin: second of the file's own time at which its first frame appears.
    """

    path: Path
    ending: str
    original: bool
    begin: float = 0.0


@contextlib.contextmanager
def playable(video: VideoRef) -> Iterator[Film]:
    """Give a file that browsers play, for as long as the block lasts.

    Raises:
        FilmError: there is none.
    """
    with scratch_folder(prefix="pal-page-") as folder:
        try:
            path, original = _local(video, folder)
        except (storage.StorageError, OSError) as error:
            raise FilmError(f"it can't be read again: {error}") from error
        ending = _ending(path)
        if ending is None:
            path, ending, original = _encode(path, folder / "copy.mp4"), ".mp4", False
        yield Film(path=path, ending=ending, original=original, begin=first_moment(str(path)))


def address(film: Film, name: str, out_folder_url: str, *, embed: bool) -> tuple[str, str]:
    """Make a film reachable from a page, and return its URL there and the ending of the copy made for it.

    Args:
        film: see there.
        name: of a copy, without ending.
        out_folder_url: folder of the page.
        embed: put it into the page, where it has at most ``EMBED_BYTES``.

    Raises:
        StorageError: a copy can't be written.
    """
    if embed and film.path.stat().st_size <= EMBED_BYTES:
        data = base64.b64encode(film.path.read_bytes()).decode()
        return f"data:{_TYPES.get(film.ending, 'video/mp4')};base64,{data}", ""
    if film.original and storage.is_local(out_folder_url):
        folder = storage.local_path(out_folder_url).absolute()
        return link(os.path.relpath(film.path, folder)), ""
    storage.upload_file(film.path, storage.join(out_folder_url, f"{name}{film.ending}"))
    return link(f"{name}{film.ending}"), film.ending


def first_moment(source: Source) -> float:
    """Return the second of a file's own time at which its first frame appears; 0 where the decoder can't tell.

    Files that were cut without encoding, or whose sound begins first, don't begin at 0.
    """
    try:
        stream = main_stream(source)
        if not isinstance(source, (str, bytes)):
            source.seek(0)
        about = VideoDecoder(source, seek_mode="approximate", stream_index=stream).metadata
        return float(about.begin_stream_seconds or 0.0)
    except (RuntimeError, ValueError):
        return 0.0


def _local(video: VideoRef, folder: Path) -> tuple[Path, bool]:
    source = open_video(video)
    if isinstance(source, str):
        return Path(source), True
    path = folder / "video"
    with path.open("wb") as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            shutil.copyfileobj(source, file, _COPY_BYTES)
    return path, False


def _ending(path: Path) -> str | None:
    """Return the ending of a file that browsers play; None for one that they don't."""
    try:
        document, _ = describe(path, [], 60.0)
    except (ProbeError, ToolError):
        return None
    names = str(document.get("format", {}).get("format_name", "")).split(",")
    films = [stream for stream in document.get("streams", []) if stream.get("codec_type") == "video"]
    if len(films) != 1 or not _common_pixels(films[0]):
        return None
    for name, (ending, codecs) in _PLAYED.items():
        if name in names and films[0].get("codec_name") in codecs:
            return ending
    return None


def _common_pixels(stream: dict[str, Any]) -> bool:
    return str(stream.get("pix_fmt")) in ("yuv420p", "yuvj420p")


def _encode(source: Path, target: Path) -> Path:
    """Encode a small copy that starts at the first frame, as the actions' times do."""
    try:
        seconds = probe(source).duration
        side = f"min({COPY_SIDE},if(gt(dar,1),ih,iw*sar))"
        filters = (
            f"{constant_rate(MOST_RATE)},scale=w='2*max(1,round(if(gt(dar,1),{side}*dar,{side})/2))'"
            f":h='2*max(1,round(if(gt(dar,1),{side},{side}/dar)/2))',setsar=1,format=yuv420p"
        )
        encoder = [
            *("-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-g", "48", "-threads", "1"),
            *("-movflags", "+faststart", "-f", "mp4"),
        ]
        done = encode_film(
            source, target, filters=filters, encoder=encoder, timeout=_TIMEOUT_SECONDS + 4 * seconds
        )
    except (ProbeError, ToolError) as error:
        raise FilmError(str(error)) from error
    if done.returncode != 0 or done.timed_out:
        raise FilmError(error_line(done, source))
    return target
