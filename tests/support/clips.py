"""Makes real, small videos with ffmpeg for the sharder's tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

PATTERN = "testsrc2=s={size}:r={fps}:d={seconds},hue=h={hue}"


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(
        ["ffmpeg", "-hide_banner", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True
    )


def make_video(
    path: Path,
    *,
    seconds: float = 2,
    fps: float = 25,
    size: str = "192x144",
    hue: int = 0,
    extra: tuple[str, ...] = (),
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = PATTERN.format(size=size, fps=fps, seconds=seconds, hue=hue)
    codec = () if "-c:v" in extra else ("-c:v", "libx264", "-preset", "ultrafast")
    ffmpeg("-f", "lavfi", "-i", source, *codec, *extra, path)
    return path


def make_folder(folder: Path, count: int, *, seconds: float = 1, labels: int = 2) -> Path:
    """Encode small videos in class folders, all by one ffmpeg: most of its time is its start."""
    inputs: list[str] = []
    outputs: list[str | Path] = []
    for number in range(count):
        path = folder / f"class {number % labels}" / f"v{number:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = PATTERN.format(size="192x144", fps=25, seconds=seconds, hue=number * 11)
        inputs += ["-f", "lavfi", "-i", source]
        outputs += ["-map", f"{number}:v", "-c:v", "libx264", "-preset", "ultrafast", path]
    ffmpeg(*inputs, *outputs)
    return folder


def _truncated(path: Path, share: float, *, faststart: bool) -> None:
    whole = path.with_name("whole.tmp.mp4")
    flags = ("-movflags", "+faststart") if faststart else ()
    make_video(whole, seconds=4, extra=flags)
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    whole.unlink()


def _vfr(path: Path) -> None:
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=192x144:r=30:d=4", "-vf", "select='not(mod(n,7))+lt(n,60)'"),
        *("-fps_mode", "vfr", "-c:v", "libx264", path),
    )


def _edit_list(path: Path) -> None:
    whole = path.with_name("whole.tmp.mp4")
    make_video(whole, seconds=4, extra=("-c:v", "libx264", "-g", "100", "-bf", "2"))
    ffmpeg("-ss", "1.5", "-i", whole, "-c", "copy", path)
    whole.unlink()


def _rotated(path: Path) -> None:
    whole = path.with_name("whole.tmp.mp4")
    make_video(whole)
    ffmpeg("-i", whole, "-c", "copy", "-metadata:s:v", "rotate=90", path)
    whole.unlink()


def _two_streams(path: Path) -> None:
    ffmpeg(
        *(
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=192x144:r=25:d=2",
            "-f",
            "lavfi",
            "-i",
            "testsrc=s=64x48:r=10:d=2",
        ),
        *("-f", "lavfi", "-i", "sine=d=2", "-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", path),
    )


def _corrupt(path: Path) -> None:
    make_video(path, seconds=4, extra=("-movflags", "+faststart"))
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data), 50):
        data[place] ^= 0xFF
    path.write_bytes(data)


def _odd_metadata(path: Path) -> None:
    make_video(path, extra=("-c:v", "mpeg4", "-bf", "0", "-metadata", "title=" + "x" * 24))
    data = path.read_bytes()
    assert data.count(b"x" * 24) == 1
    path.write_bytes(data.replace(b"x" * 24, b"\xff\xfe\x80" * 8))


def _playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")


#: kind -> (file name, maker, frames expected in the shard or the stage of the reject)
HOSTILE: dict[str, tuple[str, Callable[[Path], object], int | str]] = {
    "zero bytes": ("zero.mp4", lambda path: path.write_bytes(b""), "probe"),
    "half a file, index first": (
        "half_fast.mp4",
        lambda path: _truncated(path, 0.5, faststart=True),
        "verify",
    ),
    "half a file, index last": ("half.mp4", lambda path: _truncated(path, 0.5, faststart=False), "probe"),
    "only a header": ("header.mp4", lambda path: _truncated(path, 0.02, faststart=True), "transcode"),
    "text": ("text.mp4", lambda path: path.write_text("this is no video\n" * 99), "probe"),
    "playlist": ("playlist.mp4", _playlist, "probe"),
    "random bytes": ("random.avi", lambda path: path.write_bytes(os.urandom(20_000)), "probe"),
    "audio only": (
        "audio.mp4",
        lambda path: ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-c:a", "aac", path),
        "probe",
    ),
    "audio with a cover": (
        "cover.mp4",
        lambda path: ffmpeg(
            *("-f", "lavfi", "-i", "sine=d=2", "-f", "lavfi", "-i", "testsrc=s=64x64:d=1:r=1"),
            *(
                "-map",
                "0",
                "-map",
                "1",
                "-c:v",
                "mjpeg",
                "-frames:v",
                "1",
                "-disposition:v:0",
                "attached_pic",
                path,
            ),
        ),
        "probe",
    ),
    "one frame": ("one.mp4", lambda path: make_video(path, seconds=0.04), "verify"),
    "variable rate": ("vfr.mp4", _vfr, "frames"),
    "edit list": ("edit.mp4", _edit_list, "frames"),
    "rotated": ("rotated.mov", _rotated, 50),
    "odd sides": (
        "odd.mkv",
        lambda path: make_video(path, size="193x145", extra=("-c:v", "ffv1", "-pix_fmt", "yuv444p")),
        50,
    ),
    "10 bit": (
        "ten.mkv",
        lambda path: make_video(
            path, extra=("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=0")
        ),
        50,
    ),
    "HEVC": (
        "hevc.mp4",
        lambda path: make_video(path, extra=("-c:v", "libx265", "-x265-params", "log-level=0")),
        50,
    ),
    "VP9 in mp4": (
        "vp9.mp4",
        lambda path: make_video(path, extra=("-c:v", "libvpx-vp9", "-cpu-used", "8")),
        50,
    ),
    "AV1": ("av1.webm", lambda path: make_video(path, extra=("-c:v", "libaom-av1", "-cpu-used", "8")), 50),
    "B-frames in AVI": (
        "bframes.avi",
        lambda path: make_video(path, extra=("-c:v", "mpeg4", "-bf", "2")),
        50,
    ),
    "interlaced": (
        "interlaced.mpg",
        lambda path: make_video(path, extra=("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-top", "1")),
        50,
    ),
    "4:4:4": ("444.mp4", lambda path: make_video(path, extra=("-c:v", "libx264", "-pix_fmt", "yuv444p")), 50),
    "alpha": ("alpha.mov", lambda path: make_video(path, extra=("-c:v", "qtrle", "-pix_fmt", "argb")), 50),
    "8K": ("8k.mp4", lambda path: make_video(path, size="7680x4320", seconds=0.4), 10),
    "huge rate": ("fast.mp4", lambda path: make_video(path, fps=1000, seconds=1), 30),
    "slow rate": ("slow.mp4", lambda path: make_video(path, fps=2, seconds=6), 12),
    "29.97": ("ntsc.mp4", lambda path: make_video(path, fps=30000 / 1001, seconds=2), 60),
    "negative timestamps": (
        "negative.mkv",
        lambda path: make_video(path, extra=("-output_ts_offset", "-1", "-avoid_negative_ts", "disabled")),
        "frames",
    ),
    "negative timestamps in flv": (
        "negative.flv",
        lambda path: make_video(path, extra=("-output_ts_offset", "-1", "-avoid_negative_ts", "disabled")),
        "frames",
    ),
    "late start": ("late.ts", lambda path: make_video(path, extra=("-output_ts_offset", "100")), 50),
    "tall": ("tall.mp4", lambda path: make_video(path, size="64x480"), 50),
    "anamorphic": (
        "anamorphic.mp4",
        lambda path: make_video(path, extra=("-vf", "setsar=2")),
        50,
    ),
    "two video streams": ("two.mkv", _two_streams, 50),
    "flipped bytes": ("corrupt.mp4", _corrupt, "any"),
    "metadata that is no UTF-8": ("metadata.avi", _odd_metadata, 50),
    "upper-case ending": ("UPPER.MP4", make_video, 50),
    "spaces": ("with space.mp4", make_video, 50),
    "dots": ("v1.2.3.clip.mp4", make_video, 50),
    "quotes": ('it\'s "q" `x` $HOME %d.mp4', make_video, 50),
    "unicode": ("späße-视频-🎬.mp4", make_video, 50),
    "newline": ("new\nline.mp4", make_video, 50),
    "leading dash": ("-i.mp4", make_video, 50),
    "colon": ("http:x.mp4", lambda path: make_video(path.with_name("c.mp4")).rename(path), 50),
    "dangling link": ("dangling.mp4", lambda path: path.symlink_to("nowhere.mp4"), "read"),
    "link to itself": ("self.mp4", lambda path: path.symlink_to("self.mp4"), "read"),
    "pipe": ("pipe.mp4", os.mkfifo, "probe"),
    "folder named like a video": ("folder.mp4", lambda path: path.mkdir(), "none"),
    "folder loop": ("loop", lambda path: path.symlink_to("."), "none"),
}


def make_hostile(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, maker, _ in HOSTILE.values():
        maker(folder / name)
    raw = os.fsencode(folder) + b"/not-utf8-\xff.mp4"
    os.link(folder / "with space.mp4", raw)
