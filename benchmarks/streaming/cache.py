"""What ``data.cache_dir`` saves: epochs with and without it, bytes by where they came from.

    python -m benchmarks.streaming.cache --made 512 --cache /tmp/pal-cache --out benchmarks/streaming/cache.json
    python -m benchmarks.streaming.cache --shards s3://bucket/set --cache /nvme/pal --bytes 4000000000
    python -m benchmarks.streaming.cache --shards SMALL --cache /nvme/pal --bytes 4000000000 --frames --workers 0

``--made`` makes a set of so many clips (a quarter of a megabyte each) and serves it from an S3 server here; the cache
then takes all of it, and half of it. With 512 clips it takes under five minutes on two cores. The cache folder must
not exist; it is removed at the end. Batches of all sides are compared by their digests and pixels. ``--frames`` keeps
decoded frames too (``data.cache_frames``), for sets of few pixels: later epochs decode nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import s3fs

from benchmarks.machine import commit, cores, processor
from benchmarks.streaming import sets
from launch.demo.s3_server import S3Server
from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.loader import GroupLoader
from pal_ds.formats import shardset


def epochs(arguments: argparse.Namespace, **cache: Any) -> list[dict[str, Any]]:
    """Read whole epochs one after the other and return what each of them took."""
    warnings.simplefilter("ignore")
    data = DataConfig(
        shards=arguments.shards,
        workers=arguments.workers,
        global_batch=arguments.global_batch,
        group_size=min(8, arguments.global_batch),
        **cache,
    )
    loader = GroupLoader(
        arguments.shards,
        data=data,
        synthesis=SynthesisConfig(),
        augment=AugmentConfig(),
        seed=1,
        rank=0,
        world_size=1,
    )
    rows: list[dict[str, Any]] = []
    before = loader.start().current_stats()
    for epoch in range(arguments.epochs):
        begun, digest = time.monotonic(), hashlib.sha256()
        for _ in range(loader.plan.steps_per_epoch):
            for group in next(loader).groups:
                digest.update(group.digest)
                digest.update(zlib.crc32(group.pixels.numpy().data).to_bytes(4, "little"))
        now = loader.stats()
        stored, cached = now.bytes - before.bytes, now.cached_bytes - before.cached_bytes
        rows.append(
            {
                "epoch": epoch,
                "seconds": round(time.monotonic() - begun, 3),
                "store_bytes": stored,
                "cache_bytes": cached,
                "cache_share": round(cached / max(1, stored + cached), 4),
                "batches": digest.hexdigest()[:16],
            }
        )
        before = now
    loader.close()
    return rows


@contextlib.contextmanager
def made(clips: int) -> Iterator[str]:
    """Make a set of videos under many names, and serve it for as long as the block lasts; yields its URL."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        once = sets.sharded(sets.default_videos(folder / "videos"), folder / "once")
        own = sets.multiplied(once, folder / "own", -(-clips // sets.DISTINCT), shard_clips=64)
        with S3Server(Path(tempfile.mkdtemp(dir=scratch))) as server:
            os.environ.update(server.env)
            s3fs.S3FileSystem.clear_instance_cache()
            yield sets.uploaded(own, server.bucket("own"))


def side(arguments: argparse.Namespace, limit: int) -> dict[str, Any]:
    """Read whole epochs with a cache of so many bytes, and tell what it held at the end."""
    try:
        cache = {"cache_bytes": limit, "cache_frames": arguments.frames}
        rows = epochs(arguments, cache_dir=str(arguments.cache), **cache)
        files = [path for path in arguments.cache.rglob("*") if path.is_file()]
        database = sum(path.stat().st_size for path in files if path.name.startswith("cache.sqlite"))
        held = sum(path.stat().st_size for path in files) - database
    finally:
        shutil.rmtree(arguments.cache, ignore_errors=True)
    return {"limit_bytes": limit, "held_bytes": held, "database_bytes": database, "epochs": rows}


def main() -> None:
    """Run both sides, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--shards", help="a set that exists")
    which.add_argument("--made", type=int, metavar="CLIPS", help="make one")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument(
        "--bytes", type=int, help="of the cache (default, with --made: twice the set, then half of it)"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--global-batch", type=int, default=8)
    parser.add_argument("--frames", action="store_true", help="keep decoded frames too")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the JSON goes, beside stdout")
    arguments = parser.parse_args()
    if arguments.cache.exists():
        sys.exit(f"--cache {arguments.cache}: is there already: name a folder that is not")
    if arguments.made is None and arguments.bytes is None:
        parser.error("--shards needs --bytes")
    with contextlib.ExitStack() as stack:
        if arguments.made is not None:
            arguments.shards = stack.enter_context(made(arguments.made))
        size = shardset.load_manifest(arguments.shards).splits["train"].bytes
        limits = [arguments.bytes] if arguments.bytes else [2 * size, size // 2]
        sides = [side(arguments, limit) for limit in limits]
        plain = epochs(arguments)
    digests = [row["batches"] for row in plain]
    result = {
        "machine": f"{cores()}-core {processor()}",
        "commit": commit(),
        "command": " ".join(["python -m benchmarks.streaming.cache", *sys.argv[1:]]),
        "set_bytes": size,
        "equal_batches": all([row["batches"] for row in each["epochs"]] == digests for each in sides),
        "cached": sides,
        "plain": plain,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    if not result["equal_batches"]:
        sys.exit("the cache changed batches")


if __name__ == "__main__":
    main()
