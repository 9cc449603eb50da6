"""The look of the film, and the encoder: RGB frames in, one H.264 file out, always whole or absent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpora.mocap.rendering.raster import Picture


class EncodeError(RuntimeError):
    """ffmpeg failed or isn't installed."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """Exposure, grain and compression of a video; drawn without regard to the action."""

    gain: float
    contrast: float
    saturation: float
    vignette: float
    grain: float
    flicker: float
    crf: int
    keyframes: int

    @staticmethod
    def draw(rng: np.random.Generator) -> Film:
        """Draw a film stock; CRF 18 is clean, 34 is blocky."""
        return Film(
            gain=float(rng.uniform(0.85, 1.15)),
            contrast=float(rng.uniform(0.8, 1.2)),
            saturation=float(rng.uniform(0.3, 1.1)),
            vignette=float(rng.uniform(0.0, 0.4)),
            grain=float(rng.uniform(0.0, 7.0)) if rng.random() < 0.6 else 0.0,
            flicker=float(rng.uniform(0.0, 0.03)) if rng.random() < 0.3 else 0.0,
            crf=int(rng.integers(18, 35)),
            keyframes=int(rng.choice([12, 25, 50, 250])),
        )


class Developer:
    """Turns rendered light into pictures: grading, vignette, grain."""

    def __init__(self, film: Film, width: int, height: int, rng: np.random.Generator) -> None:
        self._film, self._rng = film, rng
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        self._gain = ((1 - np.float32(film.vignette) * (x * x + y * y) / 2) * np.float32(film.gain))[
            ..., None
        ]
        self._grain = rng.standard_normal((2 * height, 2 * width, 1), dtype=np.float32) * np.float32(
            film.grain
        )

    def __call__(self, light: Picture) -> NDArray[np.uint8]:
        """Develop one frame: float32 [H, W, 3] of light to uint8."""
        film = self._film
        picture = light * (self._gain * np.float32(1.0 + film.flicker * self._rng.standard_normal()))
        grey = picture.mean(axis=-1, keepdims=True)
        picture = grey + (picture - grey) * np.float32(film.saturation)
        picture = (picture - np.float32(110)) * np.float32(film.contrast) + np.float32(110)
        if film.grain:
            top, left = (int(self._rng.integers(side)) for side in light.shape[:2])
            picture += self._grain[top : top + light.shape[0], left : left + light.shape[1]]
        return np.asarray(np.clip(picture + 0.5, 0, 255), dtype=np.uint8)


def encode(
    frames: Iterable[NDArray[np.uint8]], path: Path, *, width: int, height: int, fps: int, film: Film
) -> None:
    """Encode frames [H, W, 3] into ``path``.

    One thread and bit-exact flags: equal frames and an equal ffmpeg build give equal bytes. The file appears
    under its name only when it is complete.

    Raises:
        EncodeError: ffmpeg is missing, or says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0", "-an", "-map_metadata", "-1"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-crf", str(film.crf)]
    command += [
        "-g",
        str(film.keyframes),
        "-pix_fmt",
        "yuv420p",
        "-fflags",
        "+bitexact",
        "-flags:v",
        "+bitexact",
    ]
    command += ["-movflags", "+faststart", "-f", "mp4", str(part)]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise EncodeError("ffmpeg is not installed") from error
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        for frame in frames:
            process.stdin.write(frame.tobytes())
        process.stdin.close()
    except BrokenPipeError:
        pass  # ffmpeg's own message, below, says why it stopped reading
    except BaseException:
        process.kill()
        process.wait()
        part.unlink(missing_ok=True)
        raise
    message = process.stderr.read().decode(errors="replace").strip()
    process.stderr.close()
    if process.wait() != 0:
        part.unlink(missing_ok=True)
        raise EncodeError(f"{path.name}: ffmpeg: {message}")
    part.replace(path)
