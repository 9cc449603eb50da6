"""From the loader to the objective: micro-batches of one rank, rendered on the device, with the wait measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from pal_ds import storage
from pal_ds.config import Config
from pal_ds.data.batch import MicroBatch
from pal_ds.data.loader import GroupLoader, LoaderStats
from pal_ds.data.synthesis.batch_render import to_device
from pal_ds.data.synthesis.render import render, views_dtype
from pal_ds.data.validation_set import ValidationSet
from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ViewBatch


class TrainFeed(Protocol):
    """What the trainer asks of a source of micro-batches: the shard set's, or a benchmark's made-up one."""

    wait_seconds: float

    def next(self) -> tuple[Any | None, Exception | None]:
        """Return the next micro-batch (with ``digests``), or the error that keeps it away."""

    def views(self, micro: Any) -> ViewBatch:
        """Return a micro-batch's views on the device."""

    def take_replaced(self) -> list[dict[str, Any]]:
        """Return the replaced clips since the last call."""

    def stats(self) -> LoaderStats:
        """Return the loader's counters."""

    def close(self) -> None:
        """Let go of everything."""


class Feed:
    """One rank's endless stream of training views.

    Args:
        config: the run.
        ranks: this process.
        step: optimizer step to start at.

    Attributes:
        wait_seconds: time this rank has spent waiting for batches.
        replaced: records of clips that were replaced since :meth:`take_replaced` was last called.
    """

    def __init__(self, config: Config, ranks: Ranks, *, step: int) -> None:
        self._config = config
        self._ranks = ranks
        retry = storage.RetryPolicy(budget_seconds=config.data.retry_seconds, patient_access=True)
        self.loader = GroupLoader(
            config.data.sources,
            data=config.data,
            synthesis=config.synthesis,
            augment=config.augment,
            seed=config.run.seed,
            rank=ranks.rank,
            world_size=ranks.world_size,
            retry=retry,
        )
        self.loader.load_state_dict({"step": step})
        self._iterator: Iterator[MicroBatch] | None = None
        on_cuda = ranks.device.type == "cuda"
        self._copying = torch.cuda.Stream(ranks.device) if on_cuda else None  # type: ignore[no-untyped-call]
        self.wait_seconds = 0.0
        self.replaced: list[dict[str, Any]] = []

    def next(self) -> tuple[MicroBatch | None, Exception | None]:
        """Return the next micro-batch on the device, or the error that keeps it away; never raises that."""
        started = time.monotonic()
        try:
            if self._iterator is None:
                self._iterator = iter(self.loader)
            host = next(self._iterator)
            # On a stream of its own a copy runs beside the work of the micro-batch before it.
            with torch.cuda.stream(self._copying):
                micro = host.to(self._ranks.device, non_blocking=True)
        except Exception as error:
            return None, error
        finally:
            self.wait_seconds += time.monotonic() - started
        self.replaced += micro.replaced
        return micro, None

    def views(self, micro: MicroBatch) -> ViewBatch:
        """Augment, blend and normalise a micro-batch on the device."""
        return to_views(micro, self._config)

    def take_replaced(self) -> list[dict[str, Any]]:
        """Return the replaced clips since the last call."""
        taken, self.replaced = self.replaced, []
        return taken

    def stats(self) -> LoaderStats:
        """Return the loader's counters since the start of this process."""
        return self.loader.stats()

    def close(self) -> None:
        """Stop the workers."""
        self.loader.close()


def to_views(micro: MicroBatch, config: Config) -> ViewBatch:
    """Render a micro-batch into the views that an objective contrasts, and say where its clips come from."""
    micro.await_copies()
    dtype = views_dtype(config.precision, differences=config.model.differences, device=micro.device.type)
    batch = ViewBatch(**render(micro, config.synthesis, config.augment, dtype))
    if config.objective.gvf or not config.objective.same_recording_negatives:
        batch.recordings_b = to_device({"recordings": micro.recordings_b.numpy()}, micro.device)["recordings"]
    return batch


class ValidationFeed:
    """This rank's part of the ``val`` split, the same views every time it is iterated."""

    def __init__(self, config: Config, ranks: Ranks) -> None:
        self._config = config
        self._ranks = ranks
        self._set = ValidationSet(
            config.data.sources,
            data=config.data,
            synthesis=config.synthesis,
            augment=config.augment,
            seed=config.run.seed,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )

    def __iter__(self) -> Iterator[ViewBatch]:
        for micro in self._set:
            batch = to_views(micro.to(self._ranks.device, non_blocking=True), self._config)
            batch.places_b = self._set.places_b(micro).to(self._ranks.device, non_blocking=True)
            yield batch
