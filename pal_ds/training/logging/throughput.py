"""Throughput and waiting between two log rows."""

from __future__ import annotations

from pal_ds.training.device_feed import TrainFeed


class Meter:
    """Adds up step times and the feed's waiting.

    Args:
        global_batch: videos per optimizer step.
        feed: the rank's feed.
        cached: whether clips are kept on a local disk, and what came from there is counted.
    """

    def __init__(self, global_batch: int, feed: TrainFeed, *, cached: bool = False) -> None:
        self._global_batch = global_batch
        self._cached = cached
        self._feed = feed
        self._steps = 0
        self._seconds = 0.0
        self._wait_before = 0.0

    def add_step(self, seconds: float) -> None:
        """Count a step that took so long, waiting included."""
        self._steps += 1
        self._seconds += seconds

    @property
    def videos_per_second(self) -> float:
        """Videos per second over all ranks since the last reset."""
        return self._global_batch * self._steps / max(self._seconds, 1e-9)

    @property
    def data_wait(self) -> float:
        """Share of the time since the last reset that this rank spent waiting for batches."""
        return min(1.0, (self._feed.wait_seconds - self._wait_before) / max(self._seconds, 1e-9))

    def reset(self) -> None:
        """Start anew."""
        self._steps = 0
        self._seconds = 0.0
        self._wait_before = self._feed.wait_seconds

    def loader_counters(self) -> dict[str, float]:
        """Return this rank's loader counters; all of them can be added over ranks."""
        stats = self._feed.stats()
        return {
            "loader_bytes": stats.bytes,
            "loader_requests": stats.requests,
            "loader_retries": stats.retries,
            "loader_replaced": stats.replaced,
            "loader_ready": stats.ready_groups,
            "loader_clips": stats.clips,
            "loader_decode_seconds": stats.decode_seconds,
            **({"loader_cached_bytes": stats.cached_bytes} if self._cached else {}),
        }
