"""The videos of the benchmark: moving test pictures with noise, as H.264 with its usual settings."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: Videos that are encoded; further ones are copies under other names.
DISTINCT = 8


def make_videos(folder: Path, count: int, seconds: float, size: str) -> None:
    """Fill a folder with videos of so many seconds and pixels (``320x240``)."""
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"v_{number:05d}.mp4"
        if number >= DISTINCT:
            path.write_bytes((folder / f"v_{number % DISTINCT:05d}.mp4").read_bytes())
            continue
        source = f"testsrc2=s={size}:r=25:d={seconds},hue=h={number * 40},noise=alls=12:allf=t"
        encoder = ("-c:v", "libx264", "-preset", "veryfast")
        subprocess.run(
            ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, *encoder, str(path)], check=True
        )


def first_videos(folder: Path, count: int, target: Path) -> Path:
    """Link the first so many videos of a folder into a new one, and return it."""
    target.mkdir()
    for path in sorted(folder.iterdir())[:count]:
        (target / path.name).hardlink_to(path)
    return target


def make_hour(folder: Path, scratch: Path) -> None:
    """Write one video of an hour, 90,000 frames of 320 x 240."""
    make_videos(scratch / "minute", 1, 60, "320x240")
    folder.mkdir()
    loop = ["-stream_loop", "59", "-i", str(scratch / "minute/v_00000.mp4"), "-c", "copy"]
    subprocess.run(["ffmpeg", "-v", "error", *loop, str(folder / "v_hour.mp4")], check=True)
