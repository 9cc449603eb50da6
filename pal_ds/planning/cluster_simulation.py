"""Simulates a run on a cluster that is not at hand, to say what will hold it back.

    pal-pretrain --config FILE --dry-run --cluster nodes=4,gpus=8,cores=96

One rank is followed through its real schedule, group by group: its workers' reads (threads, first byte, bandwidth,
memory), their decoding, their slots in shared memory, and the steps that wait for whole micro-batches. All other
ranks are taken to do the same at the same time and to share a node's cores and network evenly. Then each part is
made twice as fast in turn: the one that helps most is the bottleneck.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

from pal_ds.config import Config, ConfigError
from pal_ds.config.data import automatic_workers
from pal_ds.data.clip_stream import reading_threads
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.group_schedule import TrainSchedule
from pal_ds.planning.hardware import DECODE_PER_CORE
from pal_ds.planning.streaming_load import StreamingPlan, plan_streaming

#: Doubling a part that helps less than this is not called a bottleneck.
_MATTERS = 1.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines, by what they can do.

    Attributes:
        nodes: machines.
        gpus: GPUs of a node, one rank each.
        cores: cores of a node that decode.
        decode_rate: videos that a core decodes per second.
        train_rate: videos that a GPU trains per second when it never waits.
        first_byte_ms: wait before a store's answer begins.
        connection_mbs: bytes of one connection, MB/s.
        network_gbits: of a node's network, Gbit/s.
    """

    nodes: int = 1
    gpus: int = 8
    cores: int = 96
    decode_rate: float = DECODE_PER_CORE
    train_rate: float = 900.0
    first_byte_ms: float = 30.0
    connection_mbs: float = 90.0
    network_gbits: float = 25.0

    @property
    def world_size(self) -> int:
        """Ranks."""
        return self.nodes * self.gpus


def parse_cluster(text: str) -> Cluster:
    """Read a cluster from ``nodes=4,gpus=8,...``; what is left out keeps its default.

    Raises:
        ConfigError: an unknown name, or no number above 0.
    """
    kinds = {
        field.name: int if isinstance(field.default, int) else float for field in dataclasses.fields(Cluster)
    }
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in kinds:
            raise ConfigError("--cluster", part, f"use name=number with names from {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise ConfigError("--cluster", part, f"{name} is a number") from None
        if not (values[name] > 0 and math.isfinite(values[name])):
            raise ConfigError("--cluster", part, "use a number above 0")
    return Cluster(**values)


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
        config: the run; ``data.workers`` is per rank, and auto is what the cluster's cores give.
        epoch: geometry of its training split.
        cluster: the machines.
        steps: optimizer steps; 0 for enough of them.

    Raises:
        ConfigError: the world size does not divide the batch, or there are no workers to simulate.
    """
    if config.data.workers == "auto":
        workers = automatic_workers(int(cluster.cores), cluster.gpus)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=workers))
    if config.data.processes < 1:
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
    """One simulated worker.

    Attributes:
        threads: when each reading thread is free.
        decoded_at: when the decoder is free.
        touched: when the first group of each unit was begun.
        fetched: when each unit had arrived.
        groups: groups built.
        released: when slots were given back, oldest first.
    """

    threads: list[float]
    decoded_at: float = 0.0
    touched: list[float] = dataclasses.field(default_factory=list)
    fetched: dict[tuple[int, ...], float] = dataclasses.field(default_factory=dict)
    groups: int = 0
    released: collections.deque[float] = dataclasses.field(default_factory=collections.deque)


class _Simulation:
    """A rank's groups in order, each with the times of its reading, decoding and use, in seconds."""

    def __init__(
        self, config: Config, schedule: TrainSchedule, reading: StreamingPlan, cluster: Cluster
    ) -> None:
        data, plan = config.data, schedule.plan
        workers = min(data.processes, schedule.most_workers)
        self._schedule = schedule
        self._reading = reading
        cores_each = min(1.0, cluster.cores / (cluster.gpus * workers))
        self._decode_seconds = plan.group_size / (cluster.decode_rate * cores_each)
        self._micro_seconds = schedule.groups_per_micro_step * plan.group_size / cluster.train_rate
        self._first_byte = cluster.first_byte_ms / 1e3
        self._connection = cluster.connection_mbs * 1e6
        self._link = cluster.network_gbits / 8 * 1e9 / cluster.gpus
        self._link_free = 0.0
        threads = reading_threads(data.read_threads, whole_windows=reading.whole_windows)
        # Open windows are half used up on average; what is left of the budget is for reading ahead.
        open_bytes = reading.lanes * reading.unit_bytes / 2 if reading.whole_windows else reading.unit_bytes
        room = int((data.worker_memory_mb * 1e6 - open_bytes) // reading.unit_bytes)
        self._ahead = max(1, min(2 * threads, room))
        self._slots = data.prefetch + -(-schedule.groups_per_micro_step // workers) + 1
        self._workers = [_Worker(threads=[0.0] * threads) for _ in range(workers)]

    def run(self, steps: int) -> tuple[float, float]:
        """Return the cluster's videos per second and the share of waiting, over the second half of some steps."""
        schedule = self._schedule
        per_micro = schedule.groups_per_micro_step
        micro_steps = steps * schedule.accumulation
        now, half_at, waited = 0.0, 0.0, 0.0
        held: list[_Worker] = []
        for micro in range(micro_steps):
            if micro == micro_steps // 2:
                half_at, waited = now, 0.0
            for worker in held:
                worker.released.append(now)
            numbers = range(micro * per_micro, (micro + 1) * per_micro)
            held = [self._workers[schedule.owner(number, len(self._workers))] for number in numbers]
            ready = max(self._ready_at(number, worker) for number, worker in zip(numbers, held, strict=True))
            waited += max(0.0, ready - now)
            now = max(now, ready) + self._micro_seconds
        videos = (micro_steps - micro_steps // 2) / schedule.accumulation * schedule.plan.global_batch
        return videos / (now - half_at), waited / (now - half_at)

    def _ready_at(self, number: int, worker: _Worker) -> float:
        """Return when a group is built; its numbers must rise."""
        slot_free = worker.released.popleft() if worker.groups >= self._slots else 0.0
        unit = self._unit_of(number)
        is_new = unit not in worker.fetched
        if is_new:
            worker.fetched[unit] = self._read(worker)
        begun = max(worker.fetched[unit], worker.decoded_at, slot_free)
        if is_new:
            worker.touched.append(begun)
        worker.groups += 1
        worker.decoded_at = begun + self._decode_seconds
        return worker.decoded_at

    def _unit_of(self, number: int) -> tuple[int, ...]:
        """Name what a group is read with; windows are taken to be of one length and to begin together."""
        if not self._reading.whole_windows:
            return (number,)
        step, index = divmod(number, self._schedule.groups_per_step)
        turn, in_round = divmod(step, self._schedule.plan.lane_rounds)
        return in_round, index, turn // self._reading.unit_groups

    def _read(self, worker: _Worker) -> float:
        """Return when the worker's next unit has arrived: asked for once memory and a thread allowed."""
        asked = worker.touched[-self._ahead] if len(worker.touched) >= self._ahead else 0.0
        thread = min(range(len(worker.threads)), key=lambda index: worker.threads[index])
        begun = max(asked, worker.threads[thread])
        alone = (
            self._reading.requests_per_unit * self._first_byte + self._reading.unit_bytes / self._connection
        )
        self._link_free = max(self._link_free, begun) + self._reading.unit_bytes / self._link
        worker.threads[thread] = max(begun + alone, self._link_free)
        return worker.threads[thread]


def describe_forecast(cluster: Cluster, found: Forecast) -> dict[str, str]:
    """Return a forecast by name, as a table prints it."""
    gains = sorted(found.doubled.items(), key=lambda item: -item[1])
    return {
        "cluster": f"{cluster.nodes} nodes x {cluster.gpus} GPUs, {cluster.cores} decoding cores a node",
        "videos per second, simulated": f"{found.videos_per_second:,.0f} "
        f"({cluster.train_rate * cluster.world_size:,.0f} if GPUs never waited)",
        "share of a step spent waiting for data": f"{found.data_wait:.1%}",
        "bottleneck": found.bottleneck,
        "with twice the": ", ".join(f"{name}: x{rate / found.videos_per_second:.2f}" for name, rate in gains),
    }
