"""The sides of the comparison, each measured by samples per second and by CPU time of all its processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.streaming.peer import PairDataset
from pal_ds import storage
from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.decode import decode_frames
from pal_ds.data.loader import GroupLoader
from pal_ds.data.synthesis.render import render
from pal_ds.data.synthesis.sampling import draw_clip
from pal_ds.formats import shardset
from pal_ds.formats.tar_samples import SampleMembers, split_samples

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


class Bound:
    """Decoding alone: videos in memory, one call for exactly the frames that a sample needs, an idle parent.

    Args:
        url: the set; all its videos are read at once.
        workers: decoding processes; they stand still between turns.
        leave_out: processes whose CPU time is not the side's.
    """

    def __init__(self, url: str, workers: int, leave_out: frozenset[int]) -> None:
        context = multiprocessing.get_context("fork")
        self.leave_out = leave_out
        self._counter = context.Value("l", 0)
        self._seen = 0
        samples = [
            (sample, _needed(sample.record))
            for shard in shardset.load_manifest(url).splits["train"].shards
            for sample in split_samples(storage.read_bytes(storage.join(url, shard.name)))
        ]
        self._processes = [
            context.Process(target=_decode_for_ever, args=(samples, self._counter), daemon=True)
            for _ in range(workers)
        ]
        for process in self._processes:
            process.start()
        while self._counter.value < 16 * workers:
            time.sleep(0.1)
        self._signal(signal.SIGSTOP)

    def turn(self, seconds: float) -> dict[str, float]:
        """Measure for some seconds."""
        self._signal(signal.SIGCONT)
        try:
            return measured(self._step, seconds, leave_out=self.leave_out)
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()

    def _step(self) -> int:
        time.sleep(0.2)
        now = self._counter.value
        done, self._seen = now - self._seen, now
        return int(done)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            os.kill(int(process.pid or 0), number)


class BesideStore:
    """Another side's turns while the store serves a process that throws the bytes away, at a pace of one's choice.

    Args:
        side: whose turns they are; not closed here.
        url: what is read, in ranges of a slice.
    """

    def __init__(self, side: Bound, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._side = side
        self._pace = context.Value("d", 0.0)
        self._process = context.Process(target=_read_for_ever, args=(url, self._pace), daemon=True)
        self._process.start()

    def turn(self, seconds: float, bytes_per_second: float) -> dict[str, float]:
        """Measure for some seconds."""
        before = self._side.leave_out
        self._side.leave_out = before | {int(self._process.pid or 0)}
        self._pace.value = bytes_per_second
        try:
            time.sleep(0.3)
            return self._side.turn(seconds)
        finally:
            self._pace.value = 0.0
            self._side.leave_out = before

    def close(self) -> None:
        """End the process that reads."""
        self._process.kill()
        self._process.join()


def _read_for_ever(url: str, pace: Any) -> None:
    step = DataConfig().slice_bytes
    shards = shardset.load_manifest(url).splits["train"].shards
    for shard in itertools.cycle(shards):
        for first in range(0, shard.bytes, step):
            while not pace.value:
                time.sleep(0.05)
            begun = time.monotonic()
            count = len(
                storage.read_range(storage.join(url, shard.name), first, min(first + step, shard.bytes))
            )
            time.sleep(max(0.0, begun + count / (pace.value or 1e9) - time.monotonic()))


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


def _decode_for_ever(samples: list[tuple[SampleMembers, list[int]]], counter: Any) -> None:
    torch.set_num_threads(1)
    for sample, frames in itertools.cycle(samples):
        decode_frames(sample.video, sample.record, frames)
        with counter.get_lock():
            counter.value += 1


class Ours:
    """What the loader gives, from the store to micro-batches on the host.

    Args:
        url: the set.
        workers: decoding processes; between turns they fill their slots and then wait.
        leave_out: processes whose CPU time is not the side's.
        rendered: also run ``render`` in the consumer, on the CPU, so that float32 views are delivered.
    """

    def __init__(self, url: str, workers: int, leave_out: frozenset[int], *, rendered: bool = False) -> None:
        data = DataConfig(shards=url, workers=workers, global_batch=8, group_size=8)
        self._loader = GroupLoader(
            url, data=data, synthesis=SYNTHESIS, augment=AUGMENT, seed=0, rank=0, world_size=1
        )
        self._ready = workers * (data.prefetch + 2)
        self._leave_out = leave_out
        self._rendered = rendered
        next(self._loader)

    def turn(self, seconds: float) -> dict[str, float]:
        """Measure for some seconds, once what is ready has been used up."""
        warm_up = 2 if self._rendered else self._ready + 4
        found = measured(self._step, seconds, warm_up=warm_up, leave_out=self._leave_out)
        # Slots that fill up later would cost the next side's turn.
        end = time.monotonic() + 5
        while self._loader.stats().ready_groups < self._ready - 1 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.2)
        return found

    def close(self) -> None:
        """End the workers."""
        self._loader.close()

    def _step(self) -> int:
        micro = next(self._loader)
        if self._rendered:
            render(micro, SYNTHESIS, AUGMENT)
        return len(micro)


def peer(url: str, workers: int, seconds: float, leave_out: frozenset[int]) -> dict[str, float]:
    """Return what the pipeline gives that a user would write."""
    data = torch.utils.data.DataLoader(
        PairDataset(url), batch_size=8, num_workers=workers, multiprocessing_context="forkserver"
    )
    batches = iter(data)
    return measured(lambda: len(next(batches)[0]), seconds, leave_out=leave_out)
