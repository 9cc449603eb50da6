"""Clips drawn here: textured things that move over a background that moves too, ten seconds each.

Nothing is licensed, downloaded or shipped, and a clip is a function of its number. Two regions of a clip look alike
and unlike another clip's, which is what contrast needs; what they show is no action.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
FPS = 25
_THINGS = 4


def make_clips(folder: Path, count: int, *, seconds: float, width: int, height: int, workers: int) -> None:
    """Draw and encode clips that are not there yet, several at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    job = functools.partial(make_clip, folder, seconds=seconds, width=width, height=height)
    missing = [number for number in range(count) if not _path(folder, number).exists()]
    if workers < 2:
        for number in missing:
            job(number)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(job, missing))


def make_clip(folder: Path, number: int, *, seconds: float, width: int, height: int) -> None:
    """Draw one clip and encode it, made for fast decoding."""
    path = _path(folder, number)
    part = path.with_suffix(".part.mp4")
    words = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    words += ["-r", str(FPS), "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "fastdecode"]
    words += ["-g", "16", "-pix_fmt", "yuv420p", "-threads", "1", str(part)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE)
    assert process.stdin is not None
    for frame in frames(number, round(seconds * FPS), width, height):
        process.stdin.write(frame.tobytes())
    process.stdin.close()
    if process.wait() != 0:
        raise RuntimeError(f"ffmpeg could not encode clip {number}")
    part.replace(path)


def frames(number: int, count: int, width: int, height: int) -> list[Frame]:
    """Draw a clip's frames, uint8 [height, width, 3] each."""
    draw = np.random.default_rng(number)
    scene = _texture(draw, 2 * width, 2 * height)
    drift = draw.uniform(-1, 1, 2)
    things = [_Thing(draw, width, height) for _ in range(_THINGS)]
    made = []
    for at in range(count):
        left, top = (
            int((0.5 + 0.4 * np.sin(at * step / 40)) * size)
            for step, size in zip(drift, (width, height), strict=True)
        )
        frame = scene[top : top + height, left : left + width].copy()
        for thing in things:
            thing.draw(frame, at)
        made.append(frame)
    return made


class _Thing:
    """A textured rectangle on a path of its own."""

    def __init__(self, draw: np.random.Generator, width: int, height: int) -> None:
        edge = max(4, min(width, height) // 3)
        self._look = _texture(draw, int(draw.integers(edge // 2, edge)), int(draw.integers(edge // 2, edge)))
        self._centre = draw.uniform(0.2, 0.8, 2) * (width, height)
        self._reach = draw.uniform(0.1, 0.5, 2) * (width, height)
        self._speed, self._phase = draw.uniform(0.02, 0.2, 2), draw.uniform(0, 6.3, 2)

    def draw(self, frame: Frame, at: int) -> None:
        """Put it into a frame, as far as it is inside."""
        x, y = (self._centre + self._reach * np.sin(self._speed * at + self._phase)).astype(int)
        height, width = frame.shape[:2]
        left, top = max(0, x), max(0, y)
        right, bottom = min(width, x + self._look.shape[1]), min(height, y + self._look.shape[0])
        if right > left and bottom > top:
            frame[top:bottom, left:right] = self._look[top - y : bottom - y, left - x : right - x]


def _texture(draw: np.random.Generator, width: int, height: int) -> Frame:
    """Return soft blotches of colour: a small noise picture, enlarged."""
    cells = draw.integers(0, 256, (6, 6, 3))
    rows, columns = np.linspace(0, 5, height).astype(int), np.linspace(0, 5, width).astype(int)
    blotches = cells[rows][:, columns]
    grain = draw.integers(-20, 21, (height, width, 1))
    textured: Frame = np.clip(blotches + grain, 0, 255).astype(np.uint8)
    return textured


def pack(folder: Path, target: Path, val_fraction: float) -> None:
    """Pack a folder of clips as a shard set, without encoding them again."""
    from shards.cli import main as pal_shard

    words: list[Any] = ["build", str(folder), str(target), "--copy"]
    words += ["--val-fraction", str(val_fraction), "--shard-bytes", "16MB", "--quiet", "--json"]
    words += ["--workers", str(len(os.sched_getaffinity(0)))]
    with contextlib.redirect_stdout(sys.stderr):
        status = pal_shard(words)
    if status != 0:
        raise RuntimeError(f"pal-shard build ended with status {status}")


def _path(folder: Path, number: int) -> Path:
    return folder / f"clip-{number:05d}.mp4"
