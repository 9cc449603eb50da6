"""The validation split: the same synthetic pairs every time, dealt to ranks (docs/design.md, "Validation")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.config.sources import ShardSource
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import MicroBatch
from pal_ds.data.group_feed import GroupFeed, worker_spec
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.validation_schedule import ValidationSchedule
from pal_ds.data.sources import joined_split, load_manifests, narrowed, shard_list, sources_of, val_splits
from pal_ds.storage import RetryPolicy


class ValidationSet:
    """One rank's micro-batches of a split, one group each, with the draws of epoch 0 in every pass.

    Every clip of the split is in exactly one group of one rank. The last group may be smaller, but has at least
    three clips; ranks may get different numbers of groups, so a consumer must reduce sums and counts.

    Several sets are gone through as one: groups mix their clips by chance, each clip comes once.

    The arguments and errors are those of :class:`~pal_ds.data.loader.GroupLoader`, and:

    Args:
        max_groups: use only the first so many groups of the split; 0 for all.

    Raises:
        ConfigError: the split has fewer than three clips.
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
        max_groups: int = 0,
        retry: RetryPolicy | None = None,
    ) -> None:
        is_one = isinstance(shards, str)
        entries = sources_of(shards, val_split="val" if split is None and is_one else split)
        found = narrowed(val_splits(entries, load_manifests(entries)))
        sources = [source for source in found if source.split.clips]
        if not sources:
            raise ConfigError(
                "data.shards",
                [storage.redact(entry.url) for entry in entries],
                "no set has validation clips: build one with a val split",
            )
        plan = EpochPlan.from_manifest(
            joined_split(sources),
            global_batch=1,
            group_size=1,
            lanes_per_group=1,
            slice_bytes=data.slice_bytes,
        )
        self.schedule = ValidationSchedule(
            plan,
            group_size=data.group_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            max_groups=max_groups,
            first_shards=shard_list(sources).firsts,
        )
        self._data = data
        self._spec = worker_spec(
            sources,
            plan=plan,
            schedule=self.schedule,
            whole_windows=False,
            data=data,
            synthesis=synthesis,
            augment=augment,
            seed=seed,
            retry=retry,
        )

    def __len__(self) -> int:
        """Return the number of this rank's groups."""
        return len(self.schedule)

    def places_b(self, micro: MicroBatch) -> Tensor:
        """Return the place of each clip of a micro-batch in the pass over all ranks, int64 [B]."""
        return torch.cat([torch.from_numpy(self.schedule.places(group.number)) for group in micro.groups])

    def __iter__(self) -> Iterator[MicroBatch]:
        """Yield this rank's groups once; workers run only while the pass lasts."""
        if not len(self):
            return
        feed = GroupFeed(self._spec, self._data, group_clips=self.schedule.largest_group, in_use=1, start=0)
        try:
            for number in range(len(self)):
                yield feed.micro_batch(number, 1, 0)
        finally:
            feed.close()
