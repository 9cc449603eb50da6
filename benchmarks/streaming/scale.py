"""Time and memory to the first batch: of a set of ten million clips, and after a resume anywhere in an epoch.

    python -m benchmarks.streaming.scale --out benchmarks/streaming/scale.json

The sets are synthetic: a manifest of many shards, all of them links to one real shard of small clips; only those
that the first batches need are there at all. Every figure is from a fresh process that plays one rank of eight.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.streaming import memory, sets
from benchmarks.streaming.run import measured_on
from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.loader import GroupLoader
from pal_ds.data.order.epoch_order import EpochOrder
from pal_ds.formats import shardset
from pal_ds.formats.shardset import ShardEntry, ShardIndex, index_name, shard_name
from pal_ds.formats.tar_samples import split_samples

SHARD_CLIPS = 500
#: What the manifest says of a clip, so that slices hold as many as they would of 10 s clips.
CLIP_BYTES = 190_000
WORLD_SIZE, WORKERS, STEPS = 8, 2, 2


def settings(url: str) -> DataConfig:
    """Return the options of the rank: the paper's batch."""
    return DataConfig(shards=url, workers=WORKERS, global_batch=512, group_size=8)


def loader_of(url: str) -> GroupLoader:
    """Return the rank's loader."""
    return GroupLoader(
        url,
        data=settings(url),
        synthesis=SynthesisConfig(),
        augment=AugmentConfig(),
        seed=0,
        rank=0,
        world_size=WORLD_SIZE,
    )


def made_shard(scratch: Path) -> Path:
    """Encode a few clips and return a set of one shard of many of them."""
    videos = scratch / "videos"
    videos.mkdir()
    for number in range(8):
        source = f"testsrc2=s=170x128:r=30:d=10,hue=h={number * 40}"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
        subprocess.run([*command, str(videos / f"clip{number}.mp4")], check=True)
    return one_shard(sets.sharded(videos, scratch / "encoded"), scratch / "real")


def one_shard(folder: Path, out: Path) -> Path:
    """Write one shard of many clips out of the few in a set."""
    out.mkdir()
    samples = [
        sample
        for shard in shardset.load_manifest(str(folder)).splits["train"].shards
        for sample in split_samples((folder / shard.name).read_bytes())
    ]
    chosen = [samples[number % len(samples)] for number in range(SHARD_CLIPS)]
    sets.write_shard(
        out,
        0,
        [(sets.renamed(sample.record, str(number)), sample.video) for number, sample in enumerate(chosen)],
    )
    return out


def write_set(real: Path, folder: Path, clips: int, positions: tuple[float, ...]) -> str:
    """Write a manifest of ``clips`` clips, and the shards that the first steps at ``positions`` need."""
    folder.mkdir()
    tar = real / shard_name("train", 0)
    index = shardset.load_index(str(real), tar.name)
    count = clips // SHARD_CLIPS
    names = [shard_name("train", number) for number in range(count)]
    entries = [
        ShardEntry(name=name, clips=SHARD_CLIPS, bytes=SHARD_CLIPS * CLIP_BYTES, sha256="0" * 64)
        for name in names
    ]
    sets.write_manifest(folder, entries)
    plan = loader_of(str(folder)).plan
    order = EpochOrder(plan, 0, 0)
    found = {shard for position in positions for shard in needed(order, position)}
    # A small set is written whole: workers near the end of an epoch read ahead into the next.
    for shard in sorted(found) if count > SHARD_CLIPS else range(count):
        os.link(tar, folder / names[shard])
        (folder / index_name(names[shard])).write_bytes(
            ShardIndex(shard=names[shard], samples=index.samples).to_json()
        )
    return str(folder)


def needed(order: EpochOrder, position: float) -> set[int]:
    """Return the shards of all groups that workers read or prefetch for the first steps at a position."""
    plan, shards = order.plan, set[int]()
    first = int(position * plan.steps_per_epoch) * plan.groups_per_step
    for group in range(first, min(plan.groups_per_epoch, first + 2 * plan.lanes)):
        place = order.place(group)
        rows = order.window(place.lane, place.window)[place.offset : place.offset + plan.group_size]
        shards.update(int(row[0]) for row in rows)
    return shards


def first_batch(url: str, position: float) -> None:
    """Take the first batches at a position, in this process, and print what that took, imports left out."""
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    loader = loader_of(url)
    planned = time.monotonic()
    loader.load_state_dict({"step": int(position * loader.plan.steps_per_epoch)})
    next(loader)
    first = time.monotonic()
    for _ in range(STEPS - 1):
        next(loader)
    workers = memory.looked_at(0)
    print(
        json.dumps(
            {
                "plan_seconds": planned - begun,
                "first_batch_seconds": first - begun,
                "worker_own_mb": max(row["own_mb"] for row in workers),
                "worker_anonymous_mb": max(row["anonymous_mb"] for row in workers),
                "worker_slots_mb": max(row["slots_mb"] for row in workers),
                "clips": loader.plan.clips,
            }
        )
    )
    sys.stdout.flush()
    loader.close()


def measured(url: str, position: float, rounds: int) -> dict[str, float]:
    """Return the medians over fresh processes."""
    command = [sys.executable, "-m", "benchmarks.streaming.scale", "--url", url, "--position", str(position)]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return {name: round(statistics.median(each[name] for each in found), 3) for name in found[0]}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=10_000_000, help="clips of the large set")
    parser.add_argument("--epoch-clips", type=int, default=100_000, help="clips of the set that is resumed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the JSON goes, beside stdout")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--position", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        first_batch(options.url, options.position)
        return
    warnings.simplefilter("ignore")
    resumes = (0.01, 0.5, 0.99)
    result: dict[str, Any] = {**measured_on(), "command": " ".join(["python", *sys.argv])}
    with tempfile.TemporaryDirectory() as scratch:
        real = made_shard(Path(scratch))
        large = write_set(real, Path(scratch) / "large", options.clips, (0.0,))
        result["large set"] = measured(large, 0.0, options.rounds)
        epoch = write_set(real, Path(scratch) / "epoch", options.epoch_clips, resumes)
        result["resume"] = {f"{at:.0%}": measured(epoch, at, options.rounds) for at in resumes}
    times = [row["first_batch_seconds"] for row in result["resume"].values()]
    result["resume, slowest / fastest"] = round(max(times) / min(times), 3)
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
