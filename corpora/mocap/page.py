"""A page for people: contact sheets of every class, timelines of some untrimmed videos."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpora.mocap.encode import EncodeError
from pal_ds.pages.stylesheet import stylesheet

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_HEIGHT, _COLUMNS, _ROWS, _TIMELINES = 96, 12, 3, 8


def write_page(root: Path) -> Path:
    """Write ``index.html`` and its pictures into a finished corpus.

    Args:
        root: a local corpus folder.

    Returns:
        The page's path.

    Raises:
        EncodeError: ffmpeg couldn't read a video.
    """
    corpus = json.loads((root / "corpus.json").read_text())
    with (root / "trimmed/all.csv").open(newline="") as stream:
        clips = list(csv.DictReader(stream))
    pictures = root / "page"
    pictures.mkdir(exist_ok=True)
    sheets = []
    for label in (root / "classes.txt").read_text().splitlines():
        chosen = [clip for clip in clips if clip["label"] == label][:_ROWS]
        name = f"{label.replace(' ', '_')}.jpg"
        strips = [filmstrip(_clip_path(root, clip), seconds=10.0) for clip in chosen]
        _save(_stacked(strips), pictures / name)
        sheets.append(
            {
                "label": label,
                "picture": f"page/{name}",
                "clips": len([c for c in clips if c["label"] == label]),
            }
        )
    timelines = _timelines(root, pictures)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text())
    page = root / "index.html"
    page.write_text(template.render(corpus=corpus, sheets=sheets, timelines=timelines, style=stylesheet()))
    return page


def _clip_path(root: Path, clip: dict[str, str]) -> Path:
    start, end = int(clip["time_start"]), int(clip["time_end"])
    return root / "trimmed/videos" / clip["label"] / f"{clip['youtube_id']}_{start:06d}_{end:06d}.mp4"


def _timelines(root: Path, pictures: Path) -> list[dict[str, Any]]:
    database = json.loads((root / "untrimmed/activitynet.json").read_text())["database"]
    rows = []
    for name, video in list(database.items())[:_TIMELINES]:
        duration = float(video["duration"])
        strip = filmstrip(root / f"untrimmed/videos/v_{name}.mp4", seconds=duration)
        _save(strip, pictures / f"v_{name}.jpg")
        spans = [
            {
                "label": one["label"],
                "start": one["segment"][0],
                "end": one["segment"][1],
                "left": 100 * one["segment"][0] / duration,
                "width": 100 * (one["segment"][1] - one["segment"][0]) / duration,
            }
            for one in video["annotations"]
        ]
        rows.append({"id": name, "duration": duration, "picture": f"page/v_{name}.jpg", "spans": spans})
    return rows


def filmstrip(path: Path, seconds: float) -> NDArray[np.uint8]:
    """Read :data:`_COLUMNS` evenly spaced frames of a video side by side: uint8 [96, W, 3].

    Raises:
        EncodeError: ffmpeg couldn't read it.
    """
    rate = _COLUMNS / seconds
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-threads", "1", "-i", str(path)]
    # The last frame is held for a while: without it the filter would leave the last column out.
    hold = f"tpad=stop_mode=clone:stop_duration={seconds / _COLUMNS:.3f}"
    scale = f"{hold},fps={rate:.6f}:round=down,scale=-2:{_HEIGHT}"
    command += ["-vf", scale, "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise EncodeError(f"{path}: ffmpeg: {done.stderr.decode(errors='replace').strip()}")
    width = int(done.stdout.split(maxsplit=2)[1])
    frames = np.frombuffer(done.stdout, dtype=np.uint8)
    size = _HEIGHT * width * 3 + len(f"P6\n{width} {_HEIGHT}\n255\n")
    pictures = frames.reshape(-1, size)[:, size - _HEIGHT * width * 3 :].reshape(-1, _HEIGHT, width, 3)
    return np.concatenate(list(pictures[:_COLUMNS]), axis=1)


def _stacked(strips: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    widest = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 4), (0, widest - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.concatenate(padded)


def _save(picture: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(picture).save(path, quality=88)
