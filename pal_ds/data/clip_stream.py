"""Reading encoded clips straight from storage: prefetched range reads, bounded memory.

A worker's groups arrive in a fixed order. Their bytes are read in *units*: a lane's whole window where all open
windows of the worker fit its memory (few, large ranges), else one group at a time (many, small ones). Units are
read by a few background threads, ahead of need, in the order of need.
"""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pal_ds import storage
from pal_ds.data.clip_cache import ClipCache
from pal_ds.data.clip_index import ClipIndex, joined
from pal_ds.data.errors import ClipCorruptError, ClipError, ClipRemovedError
from pal_ds.data.order.epoch_order import ClipPosition
from pal_ds.data.order.group_schedule import GroupTask
from pal_ds.data.order.slices import IntArray
from pal_ds.data.shard_indexes import ShardIndexes
from pal_ds.data.shard_list import ShardList
from pal_ds.formats import shardset
from pal_ds.formats.shardset import ShardSetError
from pal_ds.formats.tar_samples import SampleMembers
from pal_ds.storage import ReadCounters, RetryPolicy, StorageNotFoundError

#: Read threads where groups are read one by one, by those where windows are read whole.
SMALL_READS = 2

Clip = SampleMembers | ClipError


class _Unit:
    """Clips that are read together, and what is left of them."""

    def __init__(self, future: concurrent.futures.Future[dict[ClipPosition, Clip]], estimate: int) -> None:
        self._future = future
        self._estimate = estimate
        self._clips: dict[ClipPosition, Clip] | None = None

    @property
    def untouched(self) -> bool:
        """Whether none of its clips has been taken yet."""
        return self._clips is None

    def held(self) -> int:
        """Bytes held, or about to be."""
        if self._clips is not None:
            clips = self._clips
        elif self._future.done() and self._future.exception() is None:
            clips = self._future.result()
        else:
            return self._estimate
        return sum(len(clip.video) for clip in clips.values() if isinstance(clip, SampleMembers))

    def take(self, positions: Sequence[ClipPosition]) -> list[Clip]:
        """Wait for the unit and hand out some of its clips, each of them once."""
        if self._clips is None:
            self._clips = self._future.result()
        return [self._clips.pop(position) for position in positions]


class ClipStream:
    """Encoded clips of one worker, in the order of its groups.

    Args:
        shards: the shards, by number.
        clip_bytes: mean bytes of a clip, for planning.
        budget_bytes: encoded video that may be held; one unit is always allowed.
        whole_windows: read whole windows; see :func:`fits_whole_windows`.
        threads: range reads in flight; :data:`SMALL_READS` times as many where groups are read one by one.
        retry: how long failing reads are tried again.
        cache: of samples on a local disk, or None.
    """

    def __init__(
        self,
        shards: ShardList,
        *,
        clip_bytes: int,
        budget_bytes: int,
        whole_windows: bool,
        threads: int,
        retry: RetryPolicy,
        cache: ClipCache | None = None,
    ) -> None:
        self._cache = cache
        self.counters = ReadCounters()
        self._shards = shards
        self._clip_bytes = clip_bytes
        self._budget = budget_bytes
        self._whole_windows = whole_windows
        self._threads = reading_threads(threads, whole_windows=whole_windows)
        self._retry = retry
        self._lock = threading.Lock()
        self._indexes = ShardIndexes(shards, retry, self._count)
        self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="pal-read")
        self._units: dict[tuple[int, ...], _Unit] = {}

    def groups(self, tasks: Iterable[GroupTask]) -> Iterator[tuple[GroupTask, list[Clip]]]:
        """Yield every task with its clips; a clip whose bytes are wrong comes as the error.

        Raises:
            StorageError: a read still fails after the retry budget.
            ShardSetError: an index can't be understood.
        """
        waiting = iter(tasks)
        ahead: collections.deque[tuple[GroupTask, list[_Unit]]] = collections.deque()
        following = next(waiting, None)
        while following is not None or ahead:
            while following is not None and (not ahead or self._has_room(following)):
                ahead.append((following, [self._unit(*piece) for piece in self._pieces(following)]))
                following = next(waiting, None)
            task, units = ahead.popleft()
            yield task, self._taken(task, units)

    def fetch(self, position: ClipPosition) -> Clip:
        """Read one clip now: the stand-in of a broken one."""
        return self._read(np.array([position], dtype=np.int64))[position]

    def close(self) -> None:
        """Drop what is under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._cache is not None:
            self._cache.close()

    def _pieces(self, task: GroupTask) -> list[tuple[tuple[int, ...], IntArray]]:
        """Return the units that a group needs, by name, each with its clips from this group on."""
        if self._whole_windows:
            return [(part.unit, part.rest) for part in task.parts]
        return [((task.number,), np.concatenate([part.rest[: part.count] for part in task.parts]))]

    def _has_room(self, task: GroupTask) -> bool:
        fresh = [clips for name, clips in self._pieces(task) if name not in self._units]
        if not fresh:
            return True
        ahead = sum(unit.untouched for unit in self._units.values())
        held = sum(unit.held() for unit in self._units.values())
        more = sum(map(len, fresh)) * self._clip_bytes
        return ahead < 2 * self._threads and held + more <= self._budget

    def _taken(self, task: GroupTask, units: list[_Unit]) -> list[Clip]:
        """Take a group's clips from its units, and drop the units that are used up."""
        counts = [part.count for part in task.parts] if self._whole_windows else [len(task.clips)]
        clips: list[Clip] = []
        for (name, rest), unit, count in zip(self._pieces(task), units, counts, strict=True):
            clips += unit.take(task.clips[len(clips) : len(clips) + count])
            if count == len(rest):
                del self._units[name]
        return clips

    def _unit(self, name: tuple[int, ...], clips: IntArray) -> _Unit:
        if name not in self._units:
            future = self._pool.submit(self._read, clips)
            self._units[name] = _Unit(future, len(clips) * self._clip_bytes)
        return self._units[name]

    def _read(self, rows: IntArray) -> dict[ClipPosition, Clip]:
        """Read clips with as few ranges as their places allow."""
        found: dict[ClipPosition, Clip] = {}
        for shard in sorted({int(row[0]) for row in rows}):
            clips = np.sort(rows[rows[:, 0] == shard, 1])
            try:
                found.update(self._read_shard(shard, clips, self._indexes.get(shard)))
            except StorageNotFoundError:
                # The set was compacted since its index was read: the new one says where the clips are now.
                self._indexes.forget(shard)
                found.update(self._read_shard(shard, clips, self._indexes.get(shard)))
        return found

    def _read_shard(self, shard: int, clips: IntArray, index: ClipIndex) -> dict[ClipPosition, Clip]:
        name = self._shards.label(shard)
        if clips[-1] >= len(index.sizes):
            raise ShardSetError(f"{shardset.index_name(name)}: fewer samples than in the manifest")
        found: dict[ClipPosition, Clip] = {}
        for clip in clips[index.sizes[clips] == 0].tolist():
            found[ClipPosition(shard, clip)] = ClipRemovedError(index.key(clip), f"{name}: was taken down")
        there = clips[index.sizes[clips] > 0]
        kept = self._kept(shard, there, index)
        found |= kept
        missing = np.array([clip for clip in there if ClipPosition(shard, int(clip)) not in kept], np.int64)
        for run in joined(missing, index):
            found.update(self._read_run(shard, run, index))
        return found

    def _kept(self, shard: int, clips: IntArray, index: ClipIndex) -> dict[ClipPosition, Clip]:
        """Return what the cache has of some clips of a shard."""
        found: dict[ClipPosition, Clip] = {}
        if self._cache is None:
            return found
        counters = ReadCounters()
        for clip in clips.tolist():
            offset = int(index.offsets[clip])
            data = self._cache.get(shard, index.key(clip), offset, int(index.sizes[clip]))
            if data is not None:
                (sample,) = index.samples(data, offset, [clip])
                found[ClipPosition(shard, clip)] = sample
                counters.cached_bytes += len(data)
        self._count(counters)
        return found

    def _keep(self, shard: int, key: str, offset: int, data: bytes) -> None:
        if self._cache is not None:
            self._cache.put(shard, key, offset, data)

    def _read_run(self, shard: int, run: IntArray, index: ClipIndex) -> dict[ClipPosition, Clip]:
        start = int(index.offsets[run[0]])
        data = self._range(index, start, int(index.offsets[run[-1]] + index.sizes[run[-1]]))
        try:
            samples = {sample.key: sample for sample in index.samples(data, start, run.tolist())}
        except ShardSetError:
            samples = {}
        found: dict[ClipPosition, Clip] = {}
        for clip in run.tolist():
            position = ClipPosition(shard, clip)
            sample = samples.get(index.key(clip))
            # Bytes that are wrong once may be right the second time: a proxy's fault, not the shard's.
            good = sample is not None and _is_sound(sample)
            if sample is not None and good:
                found[position] = sample
                offset = int(index.offsets[clip])
                piece = data[offset - start : offset - start + int(index.sizes[clip])]
                self._keep(shard, sample.key, offset, piece)
            else:
                found[position] = self._read_one(position, index)
        return found

    def _read_one(self, position: ClipPosition, index: ClipIndex) -> Clip:
        key = index.key(position.clip)
        start = int(index.offsets[position.clip])
        data = self._range(index, start, start + int(index.sizes[position.clip]))
        name = self._shards.label(position.shard)
        try:
            samples = list(index.samples(data, start, [position.clip]))
        except ShardSetError as error:
            return ClipCorruptError(key, f"{name}: {error}")
        if len(samples) != 1 or samples[0].key != key:
            return ClipCorruptError(
                key, f"{name}: another sample than its index says: the shard was overwritten"
            )
        if not _is_sound(samples[0]):
            changed = (
                f": {storage.redact(index.tar)} has changed since it was adopted" if index.videos else ""
            )
            return ClipCorruptError(key, f"{name}: bytes differ from the record's length or SHA-256{changed}")
        self._keep(position.shard, key, start, data)
        return samples[0]

    def _range(self, index: ClipIndex, start: int, end: int) -> bytes:
        counters = ReadCounters()
        try:
            return storage.read_range(index.tar, start, end, retry=self._retry, counters=counters)
        finally:
            self._count(counters)

    def _count(self, counters: ReadCounters) -> None:
        with self._lock:
            self.counters.add(counters)


def reading_threads(threads: int, *, whole_windows: bool) -> int:
    """Return how many range reads a worker keeps in flight: those of single clips mostly wait for the first byte."""
    return threads if whole_windows else SMALL_READS * threads


def fits_whole_windows(*, open_windows: int, window_bytes: int, budget_bytes: int) -> bool:
    """Tell whether a worker may read whole windows: all it has open, and one more to read ahead."""
    return (open_windows + 1) * window_bytes <= budget_bytes


def _is_sound(sample: SampleMembers) -> bool:
    record = sample.record
    return (
        record.key == sample.key
        and len(sample.video) == record.bytes
        and hashlib.sha256(sample.video).hexdigest() == record.sha256
    )
