"""One tiny file of every kind that people's corpora hold, made with ffmpeg: what four readers must agree on.

Every film shows ``testsrc2`` (or its gray) for 50 frames at 25 frames a second unless its kind says otherwise.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.clips import ffmpeg, make_video

SIZE = "96x72"
SOURCE = ("-f", "lavfi", "-i", f"testsrc2=s={SIZE}:r=25:d=2")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
TS = (*X264, "-bf", "0", "-f", "mpegts")


def film(path: Path, *extra: str, **options: object) -> None:
    make_video(path, **{"size": SIZE, "extra": extra or X264, **options})  # type: ignore[arg-type]


def _joined(path: Path, *parts: tuple[str, ...]) -> None:
    """MPEG-TS pieces behind each other, as recorders leave them."""
    data = b""
    for number, arguments in enumerate(parts):
        piece = path.with_name(f"{path.stem}-{number}.piece")
        ffmpeg(*arguments, piece)
        data += piece.read_bytes()
        piece.unlink()
    path.write_bytes(data)


def _source(size: str, seconds: float) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={seconds}")


def size_changes(path: Path, first: float) -> None:
    after = ("-output_ts_offset", str(first))
    _joined(path, (*_source(SIZE, first), *TS), (*_source("64x48", 2 - first), *TS, *after))


def cover_first(path: Path) -> None:
    """An MP4 whose cover picture stands before the film: the box with it is moved to the front of the index."""
    ffmpeg(
        *SOURCE, "-f", "lavfi", "-i", "color=red:s=32x32:d=1:r=1", "-map", "0", "-map", "1", *X264,
        *("-c:v:1", "mjpeg", "-frames:v:1", "1", "-disposition:v:1", "attached_pic", path),
    )  # fmt: skip
    data = path.read_bytes()
    start = data.index(b"moov") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    boxes, at = [], start + 8
    while at < start + length:
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at : at + size])
        at += size
    boxes.sort(key=lambda box: {b"mvhd": 0, b"udta": 1}.get(box[4:8], 2))
    path.write_bytes(data[: start + 8] + b"".join(boxes) + data[start + length :])


def cover_attached(path: Path) -> None:
    """A Matroska file with a cover that is larger than the film."""
    cover = path.with_name("cover.png")
    ffmpeg("-f", "lavfi", "-i", "color=red:s=400x400:d=1:r=1", "-frames:v", "1", cover)
    ffmpeg(*SOURCE, *X264, "-attach", cover, "-metadata:s:t", "mimetype=image/png", path)


def large_picture_after(path: Path) -> None:
    """A single large picture, not flagged as a cover, behind the film."""
    ffmpeg(
        *SOURCE, "-f", "lavfi", "-i", "color=red:s=400x400:d=1:r=1", "-map", "0", "-map", "1", *X264,
        *("-c:v:1", "mjpeg", "-frames:v:1", "1", path),
    )  # fmt: skip


def thumbnail_first(path: Path) -> None:
    ffmpeg(
        *("-f", "lavfi", "-i", "color=red:s=32x24:d=2:r=5"), *SOURCE, "-map", "0", "-map", "1", *X264, path,
    )  # fmt: skip


def open_gop(path: Path) -> None:
    """HEVC cut inside an open group of pictures without encoding it again: leading pictures lack their references."""
    whole = path.with_name("whole.tmp.mkv")
    parameters = "log-level=0:open-gop=1:keyint=16:min-keyint=16:bframes=4:rc-lookahead=16"
    film(whole, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", parameters, seconds=4)
    ffmpeg("-ss", "1.4", "-i", whole, "-c", "copy", path)
    whole.unlink()


def clock_wraps(path: Path) -> None:
    film(path, *TS, "-output_ts_offset", "95442.7")


def equal_stamps(path: Path) -> None:
    piece = (*_source(SIZE, 1), *TS)
    _joined(path, piece, piece)


def rotated(path: Path) -> None:
    whole = path.with_name("whole.tmp.mp4")
    film(whole)
    ffmpeg("-i", whole, "-c", "copy", "-metadata:s:v", "rotate=90", path)
    whole.unlink()


def vfr(path: Path) -> None:
    ffmpeg(*SOURCE, "-vf", "select='not(mod(n,7))+lt(n,20)'", "-fps_mode", "vfr", *X264, path)


def long_sound(path: Path) -> None:
    ffmpeg(*SOURCE, "-f", "lavfi", "-i", "sine=d=5", *X264, "-c:a", "aac", path)


def late_video(path: Path) -> None:
    whole = path.with_name("whole.tmp.mp4")
    film(whole)
    ffmpeg(
        "-itsoffset", "1.5", "-i", whole, "-f", "lavfi", "-i", "sine=d=4", "-c:v", "copy", "-c:a", "aac", path
    )
    whole.unlink()


HDR = ("-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc")
VP9 = ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0")

#: kind -> (file name, maker)
KINDS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "plain": ("plain.mp4", film),
    "size changes early": ("size_early.ts", lambda path: size_changes(path, 0.12)),
    "size changes late": ("size_late.ts", lambda path: size_changes(path, 1.6)),
    "cover first": ("cover_first.mp4", cover_first),
    "cover attached": ("attached.mkv", cover_attached),
    "large picture after": ("picture.mp4", large_picture_after),
    "thumbnail first": ("thumbnail_first.mp4", thumbnail_first),
    "open GOP, cut": ("open_gop.mp4", open_gop),
    "open GOP, cut, in TS": ("open_gop.ts", open_gop),
    "clock wraps": ("wraps.ts", clock_wraps),
    "equal time stamps": ("equal.ts", equal_stamps),
    "rotated": ("rotated.mp4", rotated),
    "HDR, 10 bit": ("hdr.mp4", lambda path: film(path, *X265, "-pix_fmt", "yuv420p10le", *HDR)),
    "gray": ("gray.mp4", lambda path: film(path, "-c:v", "libx264", "-pix_fmt", "gray")),
    "4:4:4, odd sides": (
        "odd.mkv", lambda path: film(path, "-vf", "scale=97:73", "-c:v", "libx264", "-pix_fmt", "yuv444p"),
    ),
    "alpha": ("alpha.mov", lambda path: film(path, "-c:v", "qtrle", "-pix_fmt", "argb")),
    "alpha in VP9": (
        "alpha.webm",
        lambda path: film(path, *VP9, "-pix_fmt", "yuva420p"),
    ),
    "interlaced": (
        "interlaced.mp4", lambda path: film(path, *X264, "-flags", "+ilme+ildct", "-x264opts", "tff=1"),
    ),
    "anamorphic": ("anamorphic.mp4", lambda path: film(path, *X264, "-vf", "setsar=2")),
    "GIF": ("film.gif", lambda path: film(path, "-c:v", "gif")),
    "variable rate": ("vfr.mp4", vfr),
    "fragmented": ("fragmented.mp4", lambda path: film(path, *X264, "-movflags", "frag_keyframe+empty_moov")),
    "sound outlasts it": ("sound.mp4", long_sound),
    "starts late": ("late.mp4", late_video),
    "two frames": ("sliver.mp4", lambda path: film(path, seconds=0.08)),
    "AV1": ("av1.mp4", lambda path: film(path, "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime")),
    "VP9": ("vp9.webm", lambda path: film(path, *VP9)),
    "FFV1": ("ffv1.mkv", lambda path: film(path, "-c:v", "ffv1")),
    "MPEG-2": ("mpeg2.mpg", lambda path: film(path, "-c:v", "mpeg2video")),
}  # fmt: skip


def make_kinds(folder: Path) -> dict[str, str]:
    """Make every file that this ffmpeg can make; returns why the others are missing, by kind."""
    folder.mkdir(parents=True, exist_ok=True)

    def make(kind: str) -> str | None:
        name, maker = KINDS[kind]
        # Each in a folder of its own, so that what a maker leaves behind is no file of the corpus.
        place = folder / f"{name}.making"
        place.mkdir()
        try:
            maker(place / name)
            (place / name).rename(folder / name)
        except subprocess.CalledProcessError as error:
            return f"this ffmpeg can't make it (exit status {error.returncode})"
        finally:
            shutil.rmtree(place)
        return None

    with ThreadPoolExecutor(2) as pool:
        made = dict(zip(KINDS, pool.map(make, KINDS), strict=True))
    return {kind: why for kind, why in made.items() if why}
