"""A set of adopted tars beside one of our own, at the same encoding: what the loader gets out of either.

    python -m benchmarks.sharding.adopted --out benchmarks/sharding/adopted.json

The same clips, byte for byte, once packed by ``pal-shard build`` and once as video2dataset leaves them
(``mp4+json+txt``, as many a tar), adopted. Both lie in the same S3 server; both loaders are kept open and take turns,
because the speed of a rented machine drifts within minutes. Goal: at least 0.95 of our own set.

Eight videos are encoded once and given more names in both sets. With the defaults it takes about two minutes on two
cores. Figures are written after every round, so that what was measured is kept when it is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import s3fs

from benchmarks.machine import machine
from benchmarks.streaming import sets, sides
from launch.demo.s3_server import S3Server
from pal_ds.formats import shardset
from pal_ds.formats.tar_samples import split_samples
from tests.support.foreign_tars import tar_of

#: The server keeps objects in chunks of 1 MB and reads whole ones; see benchmarks/streaming.
CHUNKS = ("-filer.maxMB=1",)


def as_video2dataset(own: Path, folder: Path) -> Path:
    """Write the clips of a set as video2dataset's tars, one for each shard."""
    folder.mkdir(parents=True)
    for number, entry in enumerate(shardset.load_manifest(str(own)).splits["train"].shards):
        members = []
        for place, sample in enumerate(split_samples((own / entry.name).read_bytes())):
            key = f"{number:05d}{place:04d}"
            document = {"url": f"https://videos.example/{key}", "key": key, "status": "success"}
            members += [
                (f"{key}.mp4", sample.video),
                (f"{key}.txt", f"the caption of clip {key}, of about the usual length".encode()),
                (f"{key}.json", json.dumps(document, indent=4).encode()),
            ]
        (folder / f"{number:05d}.tar").write_bytes(tar_of(members))
    return folder


def adopted(tars: str, dest: str) -> str:
    """Run ``pal-shard adopt``."""
    command = [sys.executable, "-m", "shards.cli", "adopt", tars, dest, "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return dest


def own_set(options: argparse.Namespace, scratch: Path) -> Path:
    """Encode the videos once, and write a set in which each has several names."""
    once = sets.sharded(options.videos or sets.default_videos(scratch / "videos"), scratch / "once")
    clips = sum(split.clips for split in shardset.load_manifest(str(once)).splits.values())
    return sets.multiplied(once, scratch / "own", max(1, options.clips // clips), shard_clips=16)


def measure(
    options: argparse.Namespace, scratch: Path
) -> Generator[dict[str, list[dict[str, float]]], None, None]:
    """Run both sides in turns; yields all turns so far after every round."""
    begun = time.monotonic()
    own = own_set(options, scratch)
    tars = as_video2dataset(own, scratch / "tars")
    with S3Server(Path(tempfile.mkdtemp(dir=scratch)), options=CHUNKS) as server:
        os.environ.update(server.env)
        s3fs.S3FileSystem.clear_instance_cache()
        first = sets.uploaded(own, server.bucket("own"))
        second = adopted(sets.uploaded(tars, server.bucket("tars")), f"{server.bucket('adopted')}/set")
        store = frozenset(sides.children())
        found: dict[str, list[dict[str, float]]] = {"own": [], "adopted": []}
        print(f"sets made in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        with (
            contextlib.closing(sides.Ours(first, options.workers, store)) as ours,
            contextlib.closing(sides.Ours(second, options.workers, store)) as theirs,
        ):
            for number in range(options.rounds):
                # Whoever goes first in a round goes second in the next.
                turns = [("own", ours), ("adopted", theirs)]
                for name, side in turns if number % 2 == 0 else reversed(turns):
                    found[name].append(side.turn(options.seconds))
                print(f"round {number + 1}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
                yield found


def ratio(ratios: Sequence[float]) -> dict[str, float]:
    """Return the mean of the rounds' ratios and its 95 % interval, by drawing rounds again (bootstrap)."""
    draw = random.Random(0)
    means = sorted(statistics.fmean(draw.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return {
        "mean": round(statistics.fmean(ratios), 4),
        "low": round(means[250], 4),
        "high": round(means[9749], 4),
        "rounds": len(ratios),
    }


def figures_of(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return what is written of the turns so far."""
    pairs = list(zip(found["adopted"], found["own"], strict=True))
    return {
        **machine(),
        "command": " ".join(["python -m benchmarks.sharding.adopted", *sys.argv[1:]]),
        "turns": found,
        "samples per second": {
            name: statistics.median(turn["per_second"] for turn in turns) for name, turns in found.items()
        },
        "adopted / own": ratio([one["per_second"] / two["per_second"] for one, two in pairs]),
        "adopted / own, by CPU time": ratio(
            [two["cpu_ms_per_sample"] / one["cpu_ms_per_sample"] for one, two in pairs]
        ),
    }


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="a folder of videos (default: synthetic ones)")
    parser.add_argument("--clips", type=int, default=64, help="clips of each set, under names of their own")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each side")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="of a loader")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: give at least 1")
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        contextlib.closing(measure(options, Path(scratch))) as rounds,
    ):
        for found in rounds:
            figures = figures_of(found)
            if options.out:
                options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({name: figures[name] for name in figures if name != "turns"}, indent=1))


if __name__ == "__main__":
    main()
