"""Throughput and waiting between two log rows."""

from __future__ import annotations

import dataclasses

from pal_ds.training.feed import Feed


@dataclasses.dataclass(frozen=True)
class Reading:
    """Figures of the steps since the last reading: videos per second over all ranks, share spent waiting."""

    videos_per_second: float
    data_wait: float


class Meter:
    """Adds up step times and the feed's waiting.

    Args:
        global_batch: videos per optimizer step.
        feed: the rank's feed.
    """

    def __init__(self, global_batch: int, feed: Feed) -> None:
        self._global_batch = global_batch
        self._feed = feed
        self._steps = 0
        self._seconds = 0.0
        self._wait_before = 0.0

    def add_step(self, seconds: float) -> None:
        """Count a step that took so long, waiting included."""
        self._steps += 1
        self._seconds += seconds

    def read(self) -> Reading:
        """Return the figures since the last reading and start anew."""
        seconds = max(self._seconds, 1e-9)
        waited = self._feed.wait_seconds - self._wait_before
        reading = Reading(self._global_batch * self._steps / seconds, min(1.0, waited / seconds))
        self.reset()
        return reading

    def reset(self) -> None:
        """Start anew."""
        self._steps = 0
        self._seconds = 0.0
        self._wait_before = self._feed.wait_seconds

    def loader_counters(self) -> dict[str, float]:
        """Return this rank's loader counters; all of them can be added over ranks."""
        stats = self._feed.loader.stats()
        return {
            "loader_bytes": stats.bytes,
            "loader_requests": stats.requests,
            "loader_retries": stats.retries,
            "loader_replaced": stats.replaced,
            "loader_ready": stats.ready_groups,
            "loader_clips": stats.clips,
            "loader_decode_seconds": stats.decode_seconds,
        }
