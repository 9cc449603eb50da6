"""One rank's stream of micro-batches: exact, resumable, the same for any number of ranks and workers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from pal_ds.config.data import DataConfig
from pal_ds.config.sources import ShardSource
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import MicroBatch
from pal_ds.data.clip_stream import fits_whole_windows
from pal_ds.data.group_feed import GroupFeed, LoaderStats, worker_spec
from pal_ds.data.order.group_schedule import TrainSchedule
from pal_ds.data.sources import load_manifests, narrowed, plan_of, sources_of, train_splits
from pal_ds.data.synthesis.slot_layout import most_in_use
from pal_ds.storage import RetryPolicy

__all__ = ["GroupLoader", "LoaderStats"]


class GroupLoader:
    """One rank's micro-batches, endless over epochs, from the loaded step on.

    The global batches are the same, byte for byte, for every world size, number of workers and start method, and
    after a resume at any step (docs/design.md, "Order of data").

    Args:
        shards: the shard set, or the sets of a mix (``data.sources``).
        data: batch geometry, workers, memory.
        synthesis: how synthetic videos are made.
        augment: how they are augmented.
        seed: the run's seed.
        rank: this rank.
        world_size: number of ranks.
        split: split of the set, where ``shards`` is one URL; None is ``train``.
        retry: how long failing reads are tried again; by default ``data.retry_seconds``, refusals included.

    Attributes:
        manifest: of the set; of a mix's first.
        plan: geometry of the epochs.
        schedule: this rank's groups.

    Raises:
        ConfigError: a split is named beside a list of sets, the batch doesn't fit the split or the world size, or
            there is no CUDA to decode with.
        ShardSetError: no shard set there, or no such split.
        StorageError: the manifest can't be read.
    """

    def __init__(
        self,
        shards: str | Sequence[ShardSource],
        *,
        data: DataConfig,
        synthesis: SynthesisConfig,
        augment: AugmentConfig,
        seed: int,
        rank: int,
        world_size: int,
        split: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        entries = sources_of(shards, split=split)
        sources = narrowed(train_splits(entries, load_manifests(entries)))
        self.manifest = sources[0].manifest
        self.plan = plan_of(data, sources)
        self.schedule = TrainSchedule(
            self.plan, seed=seed, rank=rank, world_size=world_size, accumulation=data.accumulation
        )
        self._data = data
        self._spec = worker_spec(
            sources,
            plan=self.plan,
            schedule=self.schedule,
            whole_windows=fits_whole_windows(
                open_windows=-(-self.schedule.lanes // max(1, data.processes)) * self.plan.windows_per_lane,
                window_bytes=self.plan.window_bytes,
                budget_bytes=data.worker_memory_mb * 10**6,
            ),
            data=data,
            synthesis=synthesis,
            augment=augment,
            seed=seed,
            retry=retry,
        )
        self._step = 0
        self._micro_step = 0
        self._feed: GroupFeed | None = None
        if isinstance(data.workers, int) and data.workers > self.schedule.lanes:
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
                in_use=most_in_use(self.schedule.groups_per_micro_step, self._data.processes),
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
