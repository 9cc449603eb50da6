"""How a file of unknown origin is opened with ffmpeg and put on an even clock, whoever asks for it."""

from __future__ import annotations

#: Containers that may be opened. Playlists, text and image readers are left out: a file must not be able to
#: make ffmpeg open other files or addresses, and text is no video.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,rm,gif,ivf,h264,hevc,"
    "m4v,dv,nut,mxf,y4m,yuv4mpegpipe,wtv,dhav,nsv,bink,smk"
)
#: A frame above this many pixels is refused (8K is 33 million): a header must not be able to take all memory.
MAX_PIXELS = 67_108_864
#: Frames a second that are taken of a film unless more are asked for.
MOST_RATE = 30.0


def input_arguments(path: str, *, start: float | None = None) -> list[str]:
    """Return the arguments that open one source: local files only, video containers only, one thread.

    Args:
        path: a local path, whatever characters it holds.
        start: where to begin, in seconds.
    """
    seek = [] if start is None else ["-ss", f"{start:.6f}"]
    return [
        *("-protocol_whitelist", "file", "-format_whitelist", DEMUXERS),
        *("-threads", "1", "-max_pixels", str(MAX_PIXELS)),
        *seek,
        *("-i", f"file:{path}"),
    ]


def constant_rate(most: float) -> str:
    """Return the filters that let time start at 0 and frames come at the source's rate, at ``most`` a second."""
    return f"setpts=PTS-STARTPTS,fps=fps='min(source_fps,{most:g})'"
