"""What training and validation share: groups taken from workers, and the books kept on them."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Sequence

from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import MicroBatch
from pal_ds.data.clip_cache import cache_spec
from pal_ds.data.decode import decode_device
from pal_ds.data.errors import TooManyBadClipsError
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.group_schedule import Schedule
from pal_ds.data.sources import OpenSource, common_labels, shard_list
from pal_ds.data.synthesis.slot_layout import slot_bytes, slot_count
from pal_ds.data.workers.group_source import InProcess, Source, Taken
from pal_ds.data.workers.worker_pool import WorkerPool
from pal_ds.data.workers.worker_process import WorkerSpec
from pal_ds.storage import ReadCounters, RetryPolicy

#: The share of replaced clips is judged from this many clips on.
ENOUGH_CLIPS = 256


@dataclasses.dataclass(kw_only=True)
class LoaderStats:
    """What a loader has done since it was made.

    Attributes:
        clips: clips delivered.
        bytes: bytes read from storage.
        cached_bytes: bytes read from the local cache instead.
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
    cached_bytes: int = 0


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
                workers=min(data.processes, spec.schedule.most_workers),
                slots=slot_count(data.prefetch, in_use),
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
        self.stats.cached_bytes = self._counts.cached_bytes
        self.stats.replaced += len(batch.replaced)
        self._bad_shards.update(row["shard"] for row in batch.replaced)
        share = self.stats.replaced / max(ENOUGH_CLIPS, self.stats.clips)
        if share > self._data.max_replaced_share:
            worst = ", ".join(f"{name} ({count})" for name, count in self._bad_shards.most_common(5))
            raise TooManyBadClipsError(
                f"{self.stats.replaced} of {self.stats.clips} clips had to be replaced, more than "
                f"data.max_replaced_share = {self._data.max_replaced_share}; run pal-shard verify; shards: {worst}"
            )


def worker_spec(
    sources: Sequence[OpenSource],
    *,
    plan: EpochPlan,
    schedule: Schedule,
    whole_windows: bool,
    data: DataConfig,
    synthesis: SynthesisConfig,
    augment: AugmentConfig,
    seed: int,
    retry: RetryPolicy | None,
) -> WorkerSpec:
    """Return what all workers of a rank have in common.

    Raises:
        ConfigError: decoding on CUDA is asked for where there is none.
    """
    labels = common_labels([source.manifest for source in sources])
    return WorkerSpec(
        shards=shard_list(sources),
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
        labels={name: number for number, name in enumerate(labels or ())},
        decode_timeout=data.decode_timeout,
        device=decode_device(data),
        clips=data.worker_clips,
        cache=cache_spec(data, sources),
    )
