"""The indexes of the shards that a worker reads from: a few in memory, read anew when they are needed again."""

from __future__ import annotations

import collections
import dataclasses
import logging
import threading
from collections.abc import Callable

from pal_ds import storage
from pal_ds.data.clip_index import ClipIndex
from pal_ds.data.shard_list import ShardList
from pal_ds.formats import shardset
from pal_ds.formats.shardset import ShardIndex, ShardSetError
from pal_ds.formats.understood import understood
from pal_ds.storage import ReadCounters, RetryPolicy

#: Shard indexes kept in memory by a worker (bytes): those of 400,000 clips.
INDEX_BYTES = 16 << 20
log = logging.getLogger(__name__)


class ShardIndexes:
    """Indexes by the number of their shard, the least recently used dropped first; safe for threads.

    Args:
        shards: the shards, by number.
        retry: how long failing reads are tried again.
        count: told what each read cost.
    """

    def __init__(self, shards: ShardList, retry: RetryPolicy, count: Callable[[ReadCounters], None]) -> None:
        self._shards = shards
        self._retry = retry
        self._count = count
        self._lock = threading.Lock()
        self._indexes: collections.OrderedDict[int, ClipIndex] = collections.OrderedDict()
        self._index_bytes = 0
        self._sized: set[str] = set()

    def get(self, shard: int) -> ClipIndex:
        """Return the index of a shard by number; read where it is not in memory.

        Raises:
            ShardSetError: it can't be understood, or an adopted tar has another size than when it was adopted.
            StorageError: it can't be read.
        """
        with self._lock:
            if shard in self._indexes:
                self._indexes.move_to_end(shard)
                return self._indexes[shard]
        url, name = self._shards.place(shard)
        document = self._chosen(shard, self._read_index(url, name))
        index = ClipIndex.of(document, url)
        self._check_adopted(document, index.tar)
        with self._lock:
            if shard not in self._indexes:
                self._indexes[shard] = index
                self._index_bytes += index.bytes
            while self._index_bytes > INDEX_BYTES and len(self._indexes) > 1:
                self._index_bytes -= self._indexes.popitem(last=False)[1].bytes
        return index

    def forget(self, shard: int) -> None:
        """Read the shard's index anew the next time it is asked for."""
        with self._lock:
            index = self._indexes.pop(shard, None)
            self._index_bytes -= index.bytes if index is not None else 0

    def _check_adopted(self, document: ShardIndex, tar: str) -> None:
        """Refuse an adopted tar of another size than when it was adopted: no place in it can be trusted.

        Raises:
            ShardSetError: naming it.
            StorageError: its size can't be asked for.
        """
        if document.tar_bytes is None or tar in self._sized:
            return
        found = storage.size(tar, retry=self._retry)
        if found != document.tar_bytes:
            raise ShardSetError(
                f"{document.shard}: {storage.redact(tar)} has changed since it was adopted: {found} bytes, "
                f"were {document.tar_bytes}: put it back, or adopt it again into another set"
            )
        with self._lock:
            self._sized.add(tar)

    def _chosen(self, shard: int, index: ShardIndex) -> ShardIndex:
        """Return an index with the samples alone that are used: those that a clip's place in the shard counts."""
        chosen = self._shards.chosen(shard)
        if chosen is None:
            return index
        if len(chosen) != len(index.samples):
            name = shardset.index_name(self._shards.label(shard))
            raise ShardSetError(f"{name}: {len(index.samples)} samples, {len(chosen)} in the manifest")
        used = tuple(sample for sample, use in zip(index.samples, chosen.tolist(), strict=True) if use)
        return dataclasses.replace(index, samples=used)

    def _read_index(self, url: str, name: str) -> ShardIndex:
        counters = ReadCounters()

        def again(error: ShardSetError) -> None:
            log.warning("%s; read again", error)
            counters.retries += 1

        try:
            return understood(
                lambda: shardset.load_index(url, name, retry=self._retry, counters=counters), again=again
            )
        finally:
            self._count(counters)
