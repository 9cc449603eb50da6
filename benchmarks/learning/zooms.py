"""Clips with a plain arrow of time: the camera always moves in. For ``benchmarks.learning.peers --only aot``.

    python -m benchmarks.learning.zooms DIR    # DIR/set is the shard set: 24 clips to train on, 12 held out

Each clip is ffmpeg's zoom into the Mandelbrot set from a scale of its own, at a hue and an angle of its own: 20 s at
8 frames a second, 64 x 64 pixels.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from pathlib import Path

from shards.cli import main as pal_shard

CLIPS, HELD_OUT_EVERY = 36, 3
PLACES = (
    (-0.743643887037151, -0.131825904205330),
    (-0.1607, 1.0376),
    (-1.25066, 0.02012),
    (0.3750001200618655, -0.2166393884377127),
    (-0.16070135, 1.0375665),
    (-0.7453, 0.1127),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.zooms", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    draws = random.Random(0)
    lines = ["path,start,end,split"]
    for number in range(CLIPS):
        name = f"z{number:02d}.mp4"
        _encode(folder / name, *PLACES[number % len(PLACES)], draws)
        split = "val" if number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else "train"
        lines.append(f"{name},,,{split}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    places = [str(folder / "clips.csv"), str(folder / "set"), "--video-root", str(folder)]
    return pal_shard(["build", *places, "--split-column", "--copy", "--shard-bytes", "200KB"])


def _encode(path: Path, x: float, y: float, draws: random.Random) -> None:
    hue, scale, turn = draws.randint(0, 359), draws.uniform(1.0, 3.0), draws.uniform(0, 6.28)
    zoom = f"mandelbrot=s=64x64:r=8:start_x={x}:start_y={y}:start_scale={scale:.3f}"
    picture = f"{zoom}:end_scale=0.003:end_pts=160:maxiter=300,hue=h={hue},rotate={turn:.2f}"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", "20", "-c:v", "libx264"]
    command += ["-preset", "ultrafast", "-pix_fmt", "yuv420p", "-threads", "1", str(path)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
