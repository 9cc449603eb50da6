"""Simulates a run on a cluster that is not at hand, to say what will hold it back.

    python -m pal_ds.training.cluster --config FILE --nodes 4 --gpus 8 [section.key=value ...]

One rank is followed through its real schedule, group by group: its workers' reads (threads, first byte, bandwidth,
memory), their decoding, their slots in shared memory, and the steps that wait for whole micro-batches. All other
ranks are taken to do the same at the same time and to share a node's cores and network evenly. Then each part is
made twice as fast in turn: the one that helps most is the bottleneck.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Sequence

from pal_ds import shardset, storage
from pal_ds.config import Config, ConfigError, load_config
from pal_ds.data.order import EpochPlan
from pal_ds.data.schedule import TrainSchedule
from pal_ds.training.plan import plan_run
from pal_ds.training.streaming_plan import StreamingPlan, plan_streaming

#: Doubling a part that helps less than this is not called a bottleneck.
_MATTERS = 1.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines, by what they can do.

    Attributes:
        nodes: machines.
        gpus: GPUs of a node, one rank each.
        cores: cores of a node that decode.
        decode_rate: videos that a core decodes per second (docs/streaming.md has measured ones).
        train_rate: videos that a GPU trains per second when it never waits.
        first_byte_ms: wait before a store's answer begins.
        connection_mbs: bytes of one connection, MB/s.
        network_gbits: of a node's network, Gbit/s.
    """

    nodes: int = 1
    gpus: int = 8
    cores: int = 96
    decode_rate: float = 55.0
    train_rate: float = 900.0
    first_byte_ms: float = 30.0
    connection_mbs: float = 90.0
    network_gbits: float = 25.0

    @property
    def world_size(self) -> int:
        """Ranks."""
        return self.nodes * self.gpus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a simulation found.

    Attributes:
        videos_per_second: of the whole cluster.
        data_wait: share of a step that ranks wait for data.
        bottleneck: the part whose doubling helps most; its name as in ``doubled``.
        doubled: videos per second with one part twice as fast.
        steps: optimizer steps that were simulated.
    """

    videos_per_second: float
    data_wait: float
    bottleneck: str
    doubled: dict[str, float]
    steps: int


def forecast(config: Config, epoch: EpochPlan, cluster: Cluster, *, steps: int = 0) -> Forecast:
    """Simulate a run and find its bottleneck.

    Args:
        config: the run; ``data.workers`` is per rank.
        epoch: geometry of its training split.
        cluster: the machines.
        steps: optimizer steps; 0 for enough of them.

    Raises:
        ConfigError: the world size does not divide the batch, or there are no workers to simulate.
    """
    if config.data.workers < 1:
        raise ConfigError(
            "data.workers", config.data.workers, "use 1 or more: only worker processes are simulated"
        )
    schedule = TrainSchedule(
        epoch,
        seed=config.run.seed,
        rank=0,
        world_size=cluster.world_size,
        accumulation=config.data.accumulation,
    )
    reading = plan_streaming(config, epoch, cluster.world_size)
    # Past the first filling of all buffers and through every window of a lane several times.
    steps = steps or max(40, 6 * schedule.plan.lane_rounds * reading.unit_groups)
    rate, wait = _Simulation(config, schedule, reading, cluster).run(steps)
    changes = {
        "gpu": {"train_rate": 2.0},
        "decoding": {"decode_rate": 2.0},
        "first byte of the store": {"first_byte_ms": 0.5},
        "bandwidth of a connection": {"connection_mbs": 2.0},
        "network of a node": {"network_gbits": 2.0},
    }
    doubled = {}
    for name, factors in changes.items():
        better = dataclasses.replace(
            cluster, **{field: getattr(cluster, field) * factor for field, factor in factors.items()}
        )
        doubled[name] = _Simulation(config, schedule, reading, better).run(steps)[0]
    threads = min(64, 2 * config.data.read_threads)
    more = dataclasses.replace(config, data=dataclasses.replace(config.data, read_threads=threads))
    doubled["data.read_threads"] = _Simulation(more, schedule, reading, cluster).run(steps)[0]
    best = max(doubled, key=lambda name: doubled[name])
    if doubled[best] < _MATTERS * rate:
        best = "no single part"
    return Forecast(videos_per_second=rate, data_wait=wait, bottleneck=best, doubled=doubled, steps=steps)


@dataclasses.dataclass
class _Worker:
    """One simulated worker: when its threads, its decoder and its slots are free."""

    threads: list[float]
    decoded_at: float = 0.0
    touched: list[float] = dataclasses.field(default_factory=list)
    fetched: dict[tuple[int, ...], float] = dataclasses.field(default_factory=dict)
    released: collections.deque[float] = dataclasses.field(default_factory=collections.deque)


class _Simulation:
    """A rank's groups in order, each with the times of its reading, decoding and use, in seconds."""

    def __init__(
        self, config: Config, schedule: TrainSchedule, reading: StreamingPlan, cluster: Cluster
    ) -> None:
        data = config.data
        workers = min(data.workers, schedule.most_workers)
        self._schedule = schedule
        self._reading = reading
        cores = min(1.0, cluster.cores / (cluster.gpus * workers))
        self._decode_seconds = schedule.plan.group_size / (cluster.decode_rate * cores)
        self._micro_seconds = schedule.groups_per_micro_step * schedule.plan.group_size / cluster.train_rate
        self._first_byte = cluster.first_byte_ms / 1e3
        self._connection = cluster.connection_mbs * 1e6
        self._link = cluster.network_gbits / 8 * 1e9 / cluster.gpus
        self._link_free = 0.0
        threads = reading_threads(data.read_threads, whole_windows=reading.whole_windows)
        budget = data.worker_memory_mb * 10**6
        # Open windows are half used up on average; what is left of the budget is for reading ahead.
        open_bytes = reading.lanes * reading.unit_bytes / 2 if reading.whole_windows else reading.unit_bytes
        room = int((budget - open_bytes) // reading.unit_bytes)
        self._ahead = max(1, min(2 * threads, room))
        in_use = -(-schedule.groups_per_micro_step // workers)
        self._slots = data.prefetch + in_use + 1
        self._workers = [_Worker(threads=[0.0] * threads) for _ in range(workers)]
        self._batch = schedule.plan.global_batch

    def run(self, steps: int) -> tuple[float, float]:
        """Return videos per second and the share of waiting over the second half of some steps."""
        per_micro = self._schedule.groups_per_micro_step
        micro_steps = steps * self._schedule.accumulation
        now, half_at, waited = 0.0, 0.0, 0.0
        half = micro_steps // 2
        held: list[int] = []
        for micro in range(micro_steps):
            if micro == half:
                half_at, waited = now, 0.0
            for worker in held:
                self._workers[worker].released.append(now)
            numbers = range(micro * per_micro, (micro + 1) * per_micro)
            held = [self._schedule.owner(number, len(self._workers)) for number in numbers]
            ready = max(self._ready_at(number, worker) for number, worker in zip(numbers, held, strict=True))
            waited += max(0.0, ready - now)
            now = max(now, ready) + self._micro_seconds
        spent = now - half_at
        done = (micro_steps - half) / self._schedule.accumulation * self._batch
        return done / spent, waited / spent

    def _ready_at(self, number: int, owner: int) -> float:
        worker = self._workers[owner]
        arrived = self._fetched_at(worker, self._unit_of(number))
        slot_free = 0.0
        if len(worker.touched) >= self._slots:
            slot_free = worker.released.popleft()
        begun = max(arrived, worker.decoded_at, slot_free)
        worker.touched.append(begun)
        worker.decoded_at = begun + self._decode_seconds
        return worker.decoded_at

    def _unit_of(self, number: int) -> tuple[int, ...]:
        if not self._reading.whole_windows:
            return (number,)
        step, index = divmod(number, self._schedule.groups_per_step)
        lane, turn = step % self._schedule.plan.lane_rounds, step // self._schedule.plan.lane_rounds
        return lane, index, turn // self._reading.unit_groups

    def _fetched_at(self, worker: _Worker, unit: tuple[int, ...]) -> float:
        """Return when a unit is there; it was asked for as soon as memory and a thread allowed."""
        if unit not in worker.fetched:
            before = len(worker.fetched) - self._ahead
            asked = (
                list(itertools.islice(worker.fetched.values(), before, before + 1)) if before >= 0 else [0.0]
            )
            thread = min(range(len(worker.threads)), key=lambda index: worker.threads[index])
            start = max(asked[0], worker.threads[thread])
            worker.threads[thread] = worker.fetched[unit] = self._read_until(start)
        return worker.fetched[unit]

    def _read_until(self, start: float) -> float:
        """Return when all range reads of a unit that begin at ``start`` have ended."""
        share = self._reading.unit_bytes / self._reading.requests_per_unit
        alone = start + self._reading.requests_per_unit * (self._first_byte + share / self._connection)
        workers = len(self._workers)
        self._link_free = max(self._link_free, start) + self._reading.unit_bytes / self._link
        return max(alone, self._link_free if workers else alone)
