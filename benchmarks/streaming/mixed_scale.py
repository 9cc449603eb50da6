"""Time and memory to the first batch of ten million clips in three sets that are mixed, and to choose clips of them.

    python -m benchmarks.streaming.mixed_scale --out benchmarks/streaming/mixed_scale.json

The sets are synthetic, as in scale.py: manifests of many shards, all of them links to one real shard of small clips,
and only those that the first batches need are there. The smallest set is repeated, the largest is cut. Every figure
of a first batch is from a fresh process that plays one rank of eight. For the time of `where` all indexes of the sets
are written (about a gigabyte), and `--no-where` leaves that out; `--only-where` measures nothing else:

    python -m benchmarks.streaming.mixed_scale --only-where --out benchmarks/streaming/where.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.streaming import memory, scale, sets
from benchmarks.streaming.run import measured_on
from pal_ds.config.data import DataConfig
from pal_ds.config.sources import ShardSource, Where
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.loader import GroupLoader
from pal_ds.data.order.group_schedule import order_of
from pal_ds.data.order.mix_plan import MixPlan
from pal_ds.formats import shardset
from pal_ds.formats.clip_selection import select
from pal_ds.formats.shardset import ShardEntry, ShardIndex, index_name, shard_name

#: Share of all clips and weight of each set.
SETS = ((0.7, 6.0), (0.295, 3.0), (0.005, 1.0))
POSITIONS = (0.0, 0.5)
MIXES = ("within_group", "by_group")


def loader_of(urls: list[str], mix: str) -> GroupLoader:
    """Return the loader of one rank of eight: the paper's batch."""
    sources = tuple(ShardSource(url=url, weight=weight) for url, (_, weight) in zip(urls, SETS, strict=True))
    data = DataConfig(shards=sources, mix=mix, workers=scale.WORKERS, global_batch=512, group_size=8)
    return GroupLoader(
        sources,
        data=data,
        synthesis=SynthesisConfig(),
        augment=AugmentConfig(),
        seed=0,
        rank=0,
        world_size=scale.WORLD_SIZE,
    )


def write_sets(real: Path, folder: Path, clips: int) -> list[str]:
    """Write the manifests of three sets, and the shards that the first steps at the positions need."""
    urls, names = [], []
    for number, (share, _) in enumerate(SETS):
        place = folder / f"set{number}"
        place.mkdir(parents=True)
        count = max(1, round(share * clips / scale.SHARD_CLIPS))
        mine = [shard_name("train", shard) for shard in range(count)]
        size = scale.SHARD_CLIPS * scale.CLIP_BYTES
        entries = [
            ShardEntry(name=name, clips=scale.SHARD_CLIPS, bytes=size, sha256="0" * 64) for name in mine
        ]
        sets.write_manifest(place, entries)
        urls.append(str(place))
        names += [(place, name) for name in mine]
    tar = real / shard_name("train", 0)
    index = shardset.load_index(str(real), tar.name)
    plans = [loader_of(urls, mix).plan for mix in MIXES]
    found = {shard for plan in plans for position in POSITIONS for shard in needed(plan, position)}
    for shard in sorted(found):
        place, name = names[shard]
        os.link(tar, place / name)
        (place / index_name(name)).write_bytes(ShardIndex(shard=name, samples=index.samples).to_json())
    return urls


def needed(plan: Any, position: float) -> set[int]:
    """Return the shards of all windows that workers read or prefetch for the first steps at a position."""
    assert isinstance(plan, MixPlan)
    order, shards = order_of(plan, 0, 0), set[int]()
    first = int(position * plan.steps_per_epoch) * plan.groups_per_step
    for group in range(first, min(plan.groups_per_epoch, first + 2 * plan.lanes)):
        for part in order.parts(group):
            rows = order.rows(part)[part.offset : part.offset + part.size]
            shards.update(int(row[0]) for row in rows)
    return shards


def first_batch(urls: list[str], mix: str, position: float) -> None:
    """Take the first batches at a position, in this process, and print what that took, imports left out."""
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    loader = loader_of(urls, mix)
    planned = time.monotonic()
    loader.load_state_dict({"step": int(position * loader.plan.steps_per_epoch)})
    next(loader)
    first = time.monotonic()
    for _ in range(scale.STEPS - 1):
        next(loader)
    workers = memory.looked_at(0)
    found = {
        "plan_seconds": planned - begun,
        "first_batch_seconds": first - begun,
        "worker_own_mb": max(row["own_mb"] for row in workers),
        "worker_anonymous_mb": max(row["anonymous_mb"] for row in workers),
        "worker_slots_mb": max(row["slots_mb"] for row in workers),
        "clips": loader.plan.clips,
    }
    print(json.dumps(found))
    sys.stdout.flush()
    loader.close()


def measured(urls: list[str], mix: str, position: float, rounds: int) -> dict[str, float]:
    """Return the medians over fresh processes."""
    command = [sys.executable, "-m", "benchmarks.streaming.mixed_scale", "--urls", *urls]
    command += ["--mix", mix, "--position", str(position)]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return {name: round(statistics.median(each[name] for each in found), 3) for name in found[0]}


def choosing(real: Path, urls: list[str]) -> dict[str, Any]:
    """Write all indexes of the sets, and measure what conditions on them take to choose clips the first time."""
    name = shard_name("train", 0)
    data = ShardIndex(shard=name, samples=shardset.load_index(str(real), name).samples).to_json()
    written = 0
    for url in urls:
        for shard in shardset.load_manifest(url).splits["train"].shards:
            # All rows alike, and only the name another: writing ten million rows one by one would take minutes.
            mine = data.replace(name.encode(), shard.name.encode(), 1)
            (Path(url) / index_name(shard.name)).write_bytes(mine)
            written += len(mine)
    command = [sys.executable, "-m", "benchmarks.streaming.mixed_scale", "--choose", "--urls", *urls]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    cores = len(os.sched_getaffinity(0))
    return {**json.loads(done.stdout), "index_mb": round(written / 1e6), "processes": cores}


def choose(urls: list[str]) -> None:
    """Choose clips of all sets in this process, and print what that took."""
    # Imports have a peak of their own: it is set back (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    idle = _own_mb("VmRSS")
    seconds, clips = 0.0, 0
    for url in urls:
        split = shardset.load_manifest(url).splits["train"]
        started = time.monotonic()
        clips += select(url, split, Where(min_seconds=1)).clips
        seconds += time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    readers = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime + readers.ru_utime + readers.ru_stime, 2),
        "clips": clips,
        "peak_mb": _own_mb("VmHWM"),
        "of_it_before_mb": idle,
        "largest_reader_mb": round(readers.ru_maxrss / 1e3, 1),
    }
    print(json.dumps(found))


def _own_mb(field: str) -> float:
    """Return a figure of this process's memory in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=10_000_000, help="clips of all sets together")
    parser.add_argument("--rounds", type=int, default=3)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--no-where", action="store_true", help="don't measure how long clips take to choose")
    which.add_argument("--only-where", action="store_true", help="measure that alone")
    parser.add_argument("--choose", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="where the JSON goes, beside stdout")
    parser.add_argument("--urls", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--mix", default=MIXES[0], help=argparse.SUPPRESS)
    parser.add_argument("--position", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.choose:
        choose(options.urls)
        return
    if options.urls:
        first_batch(options.urls, options.mix, options.position)
        return
    warnings.simplefilter("ignore")
    result: dict[str, Any] = {**measured_on(), "command": " ".join(["python", *sys.argv])}
    with tempfile.TemporaryDirectory() as scratch:
        real = scale.made_shard(Path(scratch))
        urls = write_sets(real, Path(scratch) / "mix", options.clips)
        for mix in () if options.only_where else MIXES:
            for position in POSITIONS:
                result[f"{mix}, at {position:.0%}"] = measured(urls, mix, position, options.rounds)
        if not options.no_where:
            result["where"] = choosing(real, urls)
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
