"""One rank's stream of micro-batches: exact, resumable, the same for any number of ranks and workers."""

from __future__ import annotations

import collections
import dataclasses
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

from pal_ds import shardset, storage
from pal_ds.config.base import ConfigError
from pal_ds.config.data import AugmentConfig, DataConfig, SynthesisConfig
from pal_ds.data.batch import MicroBatch
from pal_ds.data.errors import TooManyBadClipsError
from pal_ds.data.order import EpochPlan
from pal_ds.data.pool import InProcess, Source, Taken, WorkerPool
from pal_ds.data.schedule import Schedule, TrainSchedule
from pal_ds.data.stream import fits_whole_windows
from pal_ds.data.synthesis import slot_bytes
from pal_ds.data.worker import WorkerSpec
from pal_ds.storage import ReadCounters, RetryPolicy

log = logging.getLogger(__name__)
#: The share of replaced clips is judged from this many clips on.
ENOUGH_CLIPS = 256


@dataclasses.dataclass(kw_only=True)
class LoaderStats:
    """What a loader has done since it was made.

    Attributes:
        clips: clips delivered.
        bytes: bytes read from storage.
        requests: range and index reads.
        retries: reads tried again.
        retry_wait_seconds: time spent waiting before retries, over all workers.
        replaced: clips that had to be replaced.
        decode_seconds: time spent decoding, over all workers.
        data_wait_seconds: time the consumer waited for data.
        ready_groups: groups finished and waiting now.
        worker_restarts: workers that died and were started again.
    """

    clips: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    retry_wait_seconds: float = 0.0
    replaced: int = 0
    decode_seconds: float = 0.0
    data_wait_seconds: float = 0.0
    ready_groups: int = 0
    worker_restarts: int = 0


class GroupFeed:
    """Takes groups from workers (or builds them here) and keeps the books; shared by training and validation.

    Args:
        spec: what to build.
        data: workers, memory and limits.
        group_clips: clips of the largest group.
        in_use: groups of one worker that a consumer holds at once.
        start: the rank's first group.
    """

    def __init__(
        self, spec: WorkerSpec, data: DataConfig, *, group_clips: int, in_use: int, start: int
    ) -> None:
        self.stats = LoaderStats()
        self._data = data
        self._held: list[tuple[Taken, MicroBatch]] = []
        self._bad_shards: collections.Counter[str] = collections.Counter()
        self._counts = ReadCounters()
        size = slot_bytes(spec.synthesis, group_clips, spec.resize)
        self._source: Source
        if data.workers == 0:
            self._source = InProcess(dataclasses.replace(spec, start=start), size)
        else:
            self._source = WorkerPool(
                spec,
                workers=min(data.workers, spec.schedule.most_workers),
                slots=data.prefetch + in_use + 1,
                slot_bytes=size,
                start=start,
                start_method=data.start_method,
                max_restarts=data.max_worker_restarts,
                pin=data.pin_memory,
            )

    def micro_batch(self, first: int, count: int, micro_step: int) -> MicroBatch:
        """Return groups ``first`` .. ``first + count - 1`` of the rank; the micro-batch before becomes invalid.

        Raises:
            TooManyBadClipsError: the share of replaced clips is above the limit.
        """
        self._release()
        begun = time.perf_counter()
        taken = [self._source.take(number) for number in range(first, first + count)]
        self.stats.data_wait_seconds += time.perf_counter() - begun
        batch = MicroBatch(
            groups=tuple(each.built.group for each in taken),
            epoch=taken[0].built.group.epoch,
            step=taken[0].built.group.step,
            micro_step=micro_step,
            replaced=[row for each in taken for row in each.built.replaced],
        )
        self._held = [(each, batch) for each in taken]
        self._account(taken, batch)
        return batch

    def current_stats(self) -> LoaderStats:
        """Return the figures as of now."""
        return dataclasses.replace(
            self.stats, ready_groups=self._source.ready(), worker_restarts=self._source.restarts
        )

    def close(self) -> None:
        """End the workers; the last micro-batch becomes invalid."""
        self._held = []
        self._source.close()

    def _release(self) -> None:
        for taken, batch in self._held:
            batch.wait_for_copies()
            self._source.release(taken)
        self._held = []

    def _account(self, taken: list[Taken], batch: MicroBatch) -> None:
        for each in taken:
            self._counts.add(each.counts)
            self.stats.decode_seconds += each.built.decode_seconds
        self.stats.clips += len(batch)
        self.stats.bytes, self.stats.requests = self._counts.bytes, self._counts.requests
        self.stats.retries, self.stats.retry_wait_seconds = self._counts.retries, self._counts.wait_seconds
        self.stats.replaced += len(batch.replaced)
        self._bad_shards.update(row["shard"] for row in batch.replaced)
        share = self.stats.replaced / max(ENOUGH_CLIPS, self.stats.clips)
        if share > self._data.max_replaced_share:
            worst = ", ".join(f"{name} ({count})" for name, count in self._bad_shards.most_common(5))
            raise TooManyBadClipsError(
                f"{self.stats.replaced} of {self.stats.clips} clips had to be replaced, more than "
                f"data.max_replaced_share = {self._data.max_replaced_share}; run pal-shard verify; shards: {worst}"
            )


class GroupLoader:
    """One rank's micro-batches, endless over epochs, from the loaded step on.

    The global batches are the same, byte for byte, for every world size, number of workers and start method, and
    after a resume at any step (DESIGN.md §4.2).

    Args:
        shards_url: the shard set.
        data: batch geometry, workers, memory.
        synthesis: how synthetic videos are made.
        augment: how they are augmented.
        seed: the run's seed.
        rank: this rank.
        world_size: number of ranks.
        split: split of the set.
        retry: how long failing reads are tried again; by default ``data.retry_seconds``, refusals included.

    Raises:
        ConfigError: the batch doesn't fit the split or the world size.
        ShardSetError: no shard set there, or no such split.
        StorageError: the manifest can't be read.
    """

    def __init__(
        self,
        shards_url: str,
        *,
        data: DataConfig,
        synthesis: SynthesisConfig,
        augment: AugmentConfig,
        seed: int,
        rank: int,
        world_size: int,
        split: str = "train",
        retry: RetryPolicy | None = None,
    ) -> None:
        manifest, entry = load_split(shards_url, split)
        self.manifest = manifest
        self.plan = EpochPlan.from_manifest(
            entry,
            global_batch=data.global_batch,
            group_size=data.group_size,
            lanes_per_group=data.lanes,
            slice_bytes=data.slice_bytes,
            window_slices=data.window_slices,
        )
        self.schedule = TrainSchedule(
            self.plan, seed=seed, rank=rank, world_size=world_size, accumulation=data.accumulation
        )
        self._data = data
        self._spec = worker_spec(
            shards_url,
            plan=self.plan,
            schedule=self.schedule,
            whole_windows=fits_whole_windows(
                open_windows=-(-self.schedule.lanes // max(1, data.workers)),
                window_bytes=self.plan.window_bytes,
                budget_bytes=data.worker_memory_mb * 10**6,
            ),
            data=data,
            synthesis=synthesis,
            augment=augment,
            seed=seed,
            labels=manifest.labels or (),
            retry=retry,
        )
        self._step = 0
        self._micro_step = 0
        self._feed: GroupFeed | None = None
        if data.workers > self.schedule.lanes:
            warnings.warn(
                f"data.workers = {data.workers}: this rank has {self.schedule.lanes} lanes, so "
                f"{data.workers - self.schedule.lanes} workers have nothing to do",
                stacklevel=2,
            )

    def __iter__(self) -> Iterator[MicroBatch]:
        return self

    def __next__(self) -> MicroBatch:
        """Return the next micro-batch; the one before becomes invalid.

        Raises:
            StorageError: the store still fails after the retry budget.
            TooManyBadClipsError: more clips are broken than ``data.max_replaced_share`` allows.
            WorkerLostError: workers died too often.
        """
        feed = self.start()
        count = self.schedule.groups_per_micro_step
        first = self._step * self.schedule.groups_per_step + self._micro_step * count
        batch = feed.micro_batch(first, count, self._micro_step)
        self._micro_step += 1
        if self._micro_step == self.schedule.accumulation:
            self._step, self._micro_step = self._step + 1, 0
        return batch

    def start(self) -> GroupFeed:
        """Start the workers, if they don't run yet; iterating does it too."""
        if self._feed is None:
            self._feed = GroupFeed(
                self._spec,
                self._data,
                group_clips=self.plan.group_size,
                in_use=self._most_in_use(),
                start=self._step * self.schedule.groups_per_step,
            )
        return self._feed

    def state_dict(self) -> dict[str, Any]:
        """Return the position: the number of steps whose micro-batches were all handed out."""
        return {"step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position; running workers are ended."""
        self.close()
        self._step, self._micro_step = int(state["step"]), 0

    def stats(self) -> LoaderStats:
        """Return what was done since the workers started."""
        return LoaderStats() if self._feed is None else self._feed.current_stats()

    def close(self) -> None:
        """End the workers; the last micro-batch becomes invalid."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _most_in_use(self) -> int:
        """Return the most groups of one worker in any micro-batch."""
        count = self.schedule.groups_per_micro_step
        workers = max(1, self._data.workers)
        most = 0
        for first in range(0, self.schedule.lanes, count):
            owners = collections.Counter(
                self.schedule.owner(number, workers) for number in range(first, first + count)
            )
            most = max(most, *owners.values())
        return most


def load_split(shards_url: str, split: str) -> tuple[shardset.Manifest, shardset.SplitEntry]:
    """Return the manifest of a set and one of its splits.

    Raises:
        ConfigError: no URL is given.
        ShardSetError: no shard set there, or no such split.
        StorageError: the manifest can't be read.
    """
    if not shards_url:
        raise ConfigError("data.shards", shards_url, "give the URL of a shard set made by pal-shard build")
    manifest = shardset.load_manifest(shards_url)
    if split not in manifest.splits:
        raise shardset.ShardSetError(
            f"{storage.redact(shards_url)}: no split {split!r}; it has {', '.join(sorted(manifest.splits))}"
        )
    return manifest, manifest.splits[split]


def worker_spec(
    shards_url: str,
    *,
    plan: EpochPlan,
    schedule: Schedule,
    whole_windows: bool,
    data: DataConfig,
    synthesis: SynthesisConfig,
    augment: AugmentConfig,
    seed: int,
    labels: tuple[str, ...],
    retry: RetryPolicy | None,
) -> WorkerSpec:
    """Return what all workers of a rank have in common."""
    return WorkerSpec(
        url=shards_url,
        shard_names=plan.shard_names,
        clip_bytes=plan.clip_bytes,
        whole_windows=whole_windows,
        budget_bytes=data.worker_memory_mb * 10**6,
        threads=data.read_threads,
        retry=retry or RetryPolicy(budget_seconds=data.retry_seconds, patient_access=True),
        schedule=schedule,
        seed=seed,
        synthesis=synthesis,
        augment=augment,
        resize=data.resize,
        labels={name: number for number, name in enumerate(labels)},
        decode_timeout=data.decode_timeout,
        clips=data.worker_clips,
    )
