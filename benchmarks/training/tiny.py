"""A tiny shard set of generated clips, and settings of a tiny run, for benchmarks of what surrounds the network."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from shards.cli import main as pal_shard

#: Settings over configs/demo.yaml: a step takes milliseconds.
TINY = [
    "data.global_batch=8",
    "data.group_size=4",
    "data.workers=1",
    "synthesis.size=16",
    "synthesis.clips=4",
    "synthesis.clip_frames=4",
    "synthesis.region_max=3",
    "model.width=0.0625",
    "model.embedding_dim=16",
    "queue.size=40",
    "schedule.name=constant",
    "log.every_steps=1",
    "validation.every_steps=0",
    "checkpoint.every_steps=4",
]


def make_set(folder: Path, *, clips: int = 40, size: str = "48x36", short_side: int = 36) -> Path:
    """Encode ``clips`` moving test pictures of 2.4 s and pack them; return the shard set's folder."""
    folder.mkdir(parents=True)
    for number in range(clips):
        source = f"testsrc2=s={size}:r=25:d=2.4,hue=h={number * 37}:s={1 + number % 3},rotate={number % 5}*t"
        command = f"ffmpeg -v error -f lavfi -i {source} -c:v libx264 -preset ultrafast -pix_fmt yuv420p"
        subprocess.run([*command.split(), str(folder / f"clip-{number:03d}.mp4")], check=True)
    target = folder.with_name(folder.name + "-set")
    words = ["build", str(folder), str(target), "--short-side", str(short_side), "--shard-bytes", "400KB"]
    with contextlib.redirect_stdout(sys.stderr):
        status = pal_shard([*words, "--quiet", "--json"])
    if status != 0:
        raise RuntimeError("pal-shard build failed")
    return target
