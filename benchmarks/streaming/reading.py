"""Reading without decoding: one worker's stream of clips against one plain GET, from a server shaped like S3."""

from __future__ import annotations

import http.client
import importlib
import itertools
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pal_ds import storage
from pal_ds.config.data import DataConfig
from pal_ds.data.clip_stream import ClipStream, fits_whole_windows
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.group_schedule import TrainSchedule
from pal_ds.data.shard_list import ShardList
from pal_ds.formats import shardset
from pal_ds.formats.tar_samples import SampleMembers
from pal_ds.storage import RetryPolicy

#: MB of encoded video for the two ways of reading: a loader's default, and too little for whole windows.
MEMORY = {"windows": DataConfig().worker_memory_mb, "groups": 48}


def raw_get(url: str, seconds: float) -> dict[str, float]:
    """Read whole shards one after the other through one plain HTTP connection, and do nothing with them."""
    place = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    bucket = url.removeprefix("s3://")
    names = [shard.name for shard in shardset.load_manifest(url).splits["train"].shards]
    connection = http.client.HTTPConnection(str(place.hostname), place.port)
    buffer = bytearray(1 << 20)
    begun, count = time.monotonic(), 0
    for name in itertools.cycle(names):
        connection.request("GET", f"/{bucket}/{name}")
        answer = connection.getresponse()
        while got := answer.readinto(buffer):
            count += got
        if time.monotonic() - begun > seconds:
            break
    return {"megabytes_per_second": count / (time.monotonic() - begun) / 1e6}


def stream(url: str, how: str, seconds: float) -> dict[str, float]:
    """Read, check and hand out clips in a process of its own, with a loader's default memory and threads."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_stream, args=(url, how, seconds, theirs), daemon=True)
    process.start()
    found: dict[str, float] = ours.recv()
    process.join()
    return found


def _stream(url: str, how: str, seconds: float, report: Any) -> None:
    data = DataConfig(shards=url, global_batch=8, group_size=8, worker_memory_mb=MEMORY[how])
    split = shardset.load_manifest(url).splits["train"]
    plan = EpochPlan.from_manifest(
        split,
        global_batch=data.global_batch,
        group_size=data.group_size,
        lanes_per_group=data.lanes,
        slice_bytes=data.slice_bytes,
        window_slices=data.window_slices,
        block_clips=data.block_clips,
    )
    schedule = TrainSchedule(plan, seed=0, rank=0, world_size=1)
    budget = data.worker_memory_mb * 10**6
    whole = fits_whole_windows(
        open_windows=schedule.lanes, window_bytes=plan.window_bytes, budget_bytes=budget
    )
    if whole != (how == "windows"):
        raise ValueError(f"{schedule.lanes} lanes of {plan.window_bytes} bytes: not read by {how}")
    reader = ClipStream(
        ShardList.of(url, plan.shard_names),
        clip_bytes=plan.clip_bytes,
        budget_bytes=budget,
        whole_windows=whole,
        threads=data.read_threads,
        retry=RetryPolicy(),
    )
    # What a worker has loaded before its first read, and a first request for the connection.
    importlib.import_module("pal_ds.data.workers.worker_process")
    storage.read_bytes(storage.join(url, shardset.MANIFEST_NAME))
    before, cpu = _resident(), sum(os.times()[:2])
    begun, read, held = time.monotonic(), 0, 0
    for _, clips in reader.groups(schedule.tasks(0)):
        read += sum(len(clip.video) for clip in clips if isinstance(clip, SampleMembers))
        held = max(held, sum(unit.held() for unit in list(reader._units.values())))
        if time.monotonic() - begun > seconds:
            break
    wall = time.monotonic() - begun
    counters = reader.counters
    report.send(
        {
            "megabytes_per_second": read / wall / 1e6,
            "megabytes_fetched_per_second": counters.bytes / wall / 1e6,
            "requests_per_second": counters.requests / wall,
            "held_megabytes_at_most": held / 1e6,
            "resident_megabytes_more": (_resident(peak=True) - before) / 1e6,
            "cpu_seconds_per_gigabyte": (sum(os.times()[:2]) - cpu) / read * 1e9,
        }
    )
    reader.close()
    os._exit(0)


def _resident(*, peak: bool = False) -> int:
    field = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(field)
