"""The look of the film, and the encoder: RGB frames in, one MP4 file out, always whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchcodec.encoders import Encoder

from corpora.mocap.corpus_plan import Codec
from corpora.mocap.rendering.backdrop import Picture


class EncodeError(RuntimeError):
    """FFmpeg's libraries could not write a video."""


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
        self._gain = (1 - np.float32(film.vignette) * (x * x + y * y) / 2) * np.float32(film.gain)
        grain = rng.standard_normal((2 * height, 2 * width), dtype=np.float32)
        self._grain = grain * np.float32(film.grain)

    def __call__(self, light: Picture) -> NDArray[np.uint8]:
        """Develop a strip: float32 [3, F, H, W] of light to uint8 [F, 3, H, W]."""
        film = self._film
        flicker, places = self._drawn(light.shape[1:])
        picture = light * (self._gain * flicker[:, None, None])
        grey = picture.mean(axis=0) * np.float32(1 - film.saturation)
        picture *= np.float32(film.saturation)
        picture += grey
        picture *= np.float32(film.contrast)
        picture += np.float32(110 * (1 - film.contrast) + 0.5)
        for number, (top, left) in enumerate(places):
            height, width = light.shape[2:]
            picture[:, number] += self._grain[top : top + height, left : left + width]
        np.clip(picture, 0, 255, out=picture)
        return np.ascontiguousarray(picture.astype(np.uint8).swapaxes(0, 1))

    def _drawn(self, shape: tuple[int, ...]) -> tuple[Picture, list[tuple[int, int]]]:
        """Draw each frame's flicker and, with grain, where it lies; frame by frame, so that strips don't matter."""
        flicker, places = [], []
        for _ in range(shape[0]):
            flicker.append(1.0 + self._film.flicker * self._rng.standard_normal())
            if self._film.grain:
                places.append((int(self._rng.integers(shape[1])), int(self._rng.integers(shape[2]))))
        return np.array(flicker, dtype=np.float32), places


def encode(
    strips: Iterable[NDArray[np.uint8]],
    path: Path,
    *,
    width: int,
    height: int,
    fps: int,
    film: Film,
    codec: Codec = "h264",
) -> None:
    """Encode strips of frames, uint8 [F, 3, H, W], into ``path``.

    In this process: for a short, small video a start of ffmpeg costs more than all its frames. One thread: equal
    frames and an equal build of FFmpeg give equal bytes. The file appears under its name only when it is complete.

    Raises:
        EncodeError: FFmpeg can't write it, and says why.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    encoder = Encoder()
    try:
        stream = _asked(
            path,
            encoder.add_video,
            height=height,
            width=width,
            frame_rate=float(fps),
            pixel_format="yuv420p",
            **_settings(codec, film),
        )
        with part.open("wb") as file, _asked(path, encoder.open_file_like, file, format="mp4"):
            for strip in strips:
                # Torch's memory is aligned; how FFmpeg rounds colours depends on where the pixels lie.
                _asked(path, stream.add_frames, torch.from_numpy(strip).clone())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def _settings(codec: Codec, film: Film) -> dict[str, Any]:
    shared = {"g": film.keyframes, "threads": 1}
    if codec == "mpeg4":
        # CRF 18 to 34 as quantizers 2 to 6, which look about as clean and as blocky.
        quantizer = 2 + (film.crf - 18) // 4
        return {"codec": "mpeg4", "extra_options": {**shared, "qmin": quantizer, "qmax": quantizer}}
    # With its macroblock tree x264 gives other bytes now and then for the same small frames.
    more = {"tune": "fastdecode", "x264-params": "mbtree=0"}
    return {"codec": "libx264", "crf": film.crf, "preset": "veryfast", "extra_options": {**shared, **more}}


def _asked(path: Path, call: Callable[..., Any], *values: Any, **settings: Any) -> Any:
    """Call the encoder; what it can't do is an error of this video, apart from errors of who draws it."""
    try:
        return call(*values, **settings)
    except RuntimeError as error:
        raise EncodeError(f"{path.name}: {str(error).strip().splitlines()[0]}") from error
