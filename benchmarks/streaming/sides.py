"""The sides of the comparison, each measured by samples per second and by CPU time of all its processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.streaming.peer import PairDataset
from pal_ds import shardset, storage
from pal_ds.config.data import AugmentConfig, DataConfig, SynthesisConfig
from pal_ds.data.augment import render
from pal_ds.data.decode import decode_frames
from pal_ds.data.loader import GroupLoader
from pal_ds.data.sampling import draw_clip

SYNTHESIS, AUGMENT = SynthesisConfig(), AugmentConfig()


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time of processes that still run."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def children(leave_out: frozenset[int] = frozenset()) -> list[int]:
    """Return all living descendants of this process but those given."""
    found, pending = [], [os.getpid()]
    while pending:
        for task in Path(f"/proc/{pending.pop()}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                if child not in leave_out:
                    found.append(child)
                    pending.append(child)
    return found


def measured(
    step: Callable[[], int], seconds: float, *, warm_up: int = 2, leave_out: frozenset[int] = frozenset()
) -> dict[str, float]:
    """Run ``step`` (returns samples) for some seconds after a warm-up.

    ``leave_out`` is the store and whatever else is no part of the side: its CPU time is told apart.
    """
    for _ in range(warm_up):
        step()
    pids = [os.getpid(), *children(leave_out)]
    cpu, others = cpu_seconds(pids), cpu_seconds(leave_out)
    begun, samples = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        samples += step()
    wall = time.monotonic() - begun
    used, beside = cpu_seconds(pids) - cpu, cpu_seconds(leave_out) - others
    return {
        "samples": samples,
        "per_second": samples / wall,
        "cpu_ms_per_sample": 1000 * used / samples,
        "store_cpu_ms_per_sample": 1000 * beside / samples,
    }


def bound(url: str, workers: int, seconds: float, leave_out: frozenset[int]) -> dict[str, float]:
    """Decoding alone: videos in memory, one call for exactly the frames that a sample needs, an idle parent."""
    context = multiprocessing.get_context("fork")
    counter = context.Value("l", 0)
    samples = [
        (sample, _needed(sample.record))
        for shard in shardset.load_manifest(url).splits["train"].shards
        for sample in shardset.split_samples(storage.read_bytes(storage.join(url, shard.name)))
    ]
    processes = [
        context.Process(target=_decode_for_ever, args=(samples, counter), daemon=True) for _ in range(workers)
    ]
    for process in processes:
        process.start()
    last = 0

    def step() -> int:
        nonlocal last
        time.sleep(0.2)
        now = counter.value
        done, last = now - last, now
        return int(done)

    while counter.value < 16 * workers:
        time.sleep(0.1)
    found = measured(step, seconds, leave_out=leave_out)
    for process in processes:
        process.kill()
        process.join()
    return found


def bound_beside_store(
    url: str, workers: int, seconds: float, leave_out: frozenset[int], bytes_per_second: float
) -> dict[str, float]:
    """Decoding alone while the store serves another process as many bytes per second as the loader reads."""
    reader = multiprocessing.get_context("spawn").Process(
        target=_read_for_ever, args=(url, bytes_per_second), daemon=True
    )
    reader.start()
    try:
        return bound(url, workers, seconds, leave_out | {int(reader.pid or 0)})
    finally:
        reader.kill()
        reader.join()


def _read_for_ever(url: str, bytes_per_second: float) -> None:
    """Read the set at a pace, in ranges of a slice, and throw the bytes away."""
    step = DataConfig().slice_bytes
    shards = shardset.load_manifest(url).splits["train"].shards
    begun, count = time.monotonic(), 0
    for shard in itertools.cycle(shards):
        for first in range(0, shard.bytes, step):
            last = min(first + step, shard.bytes)
            count += len(storage.read_range(storage.join(url, shard.name), first, last))
            time.sleep(max(0.0, begun + count / bytes_per_second - time.monotonic()))


def _needed(record: shardset.SampleRecord) -> list[int]:
    """Return the frames of a clip's two regions and of its background, as a loader would draw them."""
    drawn = draw_clip(
        0,
        0,
        record.key,
        frames=record.frames,
        height=record.height,
        width=record.width,
        synthesis=SYNTHESIS,
        augment=AUGMENT,
    )
    frames = [*drawn.regions[0].frames, *drawn.regions[1].frames, *drawn.background]
    return [int(frame) for frame in frames]


def _decode_for_ever(samples: list[tuple[shardset.SampleMembers, list[int]]], counter: Any) -> None:
    torch.set_num_threads(1)
    for sample, frames in itertools.cycle(samples):
        decode_frames(sample.video, sample.record, frames)
        with counter.get_lock():
            counter.value += 1


def ours(
    url: str, workers: int, seconds: float, leave_out: frozenset[int], *, rendered: bool
) -> dict[str, float]:
    """Return what the loader gives, from the store to micro-batches on the host.

    Args:
        url: the set.
        workers: decoding processes.
        seconds: how long.
        leave_out: processes whose CPU time is not the side's.
        rendered: also run ``render`` in the consumer, on the CPU, so that float32 views are delivered.
    """
    data = DataConfig(shards=url, workers=workers, global_batch=8, group_size=8)
    loader = GroupLoader(url, data=data, synthesis=SYNTHESIS, augment=AUGMENT, seed=0, rank=0, world_size=1)

    def step() -> int:
        micro = next(loader)
        if rendered:
            render(micro, SYNTHESIS, AUGMENT)
        return len(micro)

    try:
        return measured(step, seconds, warm_up=3 * workers, leave_out=leave_out)
    finally:
        loader.close()


def peer(url: str, workers: int, seconds: float, leave_out: frozenset[int]) -> dict[str, float]:
    """Return what the pipeline gives that a user would write."""
    data = torch.utils.data.DataLoader(
        PairDataset(url), batch_size=8, num_workers=workers, multiprocessing_context="forkserver"
    )
    batches = iter(data)
    return measured(lambda: len(next(batches)[0]), seconds, leave_out=leave_out)
