"""What ``data.cache_dir`` saves: epochs with and without it, bytes by where they came from.

    python -m benchmarks.streaming.cache --shards s3://bucket/set --cache /nvme/pal --bytes 4000000000

The cache folder must not exist; it is removed at the end. Batches of both sides are compared by their digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, cores, processor
from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.loader import GroupLoader


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


def main() -> None:
    """Run both sides, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--global-batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.cache.exists():
        sys.exit(f"--cache {arguments.cache}: is there already: name a folder that is not")
    try:
        cached = epochs(arguments, cache_dir=str(arguments.cache), cache_bytes=arguments.bytes)
    finally:
        shutil.rmtree(arguments.cache, ignore_errors=True)
    plain = epochs(arguments)
    equal = [row["batches"] for row in cached] == [row["batches"] for row in plain]
    machine = f"{cores()}-core {processor()}"
    print(
        json.dumps(
            {
                "machine": machine,
                "commit": commit(),
                "equal_batches": equal,
                "cached": cached,
                "plain": plain,
            },
            indent=1,
        )
    )
    if not equal:
        sys.exit("the cache changed batches")


if __name__ == "__main__":
    main()
