"""Looks through the indexes of a split for clips that meet conditions; as a process of its own for large sets.

    python -m pal_ds.formats.clip_scan < job.json      a line of JSON a shard on stdout

Parsing is what takes time, and Python parses on one core: a large split is divided over processes.
"""

from __future__ import annotations

import base64
import collections
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import gc
import itertools
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pal_ds import storage
from pal_ds.config.loading import build, to_tree
from pal_ds.config.sources import Where
from pal_ds.formats import shardset
from pal_ds.formats.record_tails import read_record
from pal_ds.formats.shardset import SampleEntry, SampleRecord, ShardSetError, SplitEntry
from pal_ds.formats.understood import understood

#: Splits with fewer shards are read by this process alone.
FEW_SHARDS = 500
#: Indexes a process reads at a time.
_INDEX_READS = 16
log = logging.getLogger(__name__)
#: Records a process reads at a time, of one shard.
_RECORD_READS = 32
#: Times an index that can't be understood is read before the set is called broken.


@dataclasses.dataclass(frozen=True)
class ShardScan:
    """What was found in a shard.

    Attributes:
        chosen: bool [samples], the clips that meet all conditions.
        bytes: bytes of their samples.
        frames: their frames.
        seconds: their length.
    """

    chosen: npt.NDArray[np.bool_]
    bytes: int
    frames: int
    seconds: float


class ClipMatcher:
    """The conditions of ``where``, ready to be asked.

    Args:
        where: the conditions.

    Raises:
        StorageError: a file of keys can't be read.
    """

    def __init__(self, where: Where) -> None:
        self.where = where
        self._keys = read_keys(where.keys) if where.keys else None
        self._excluded = read_keys(where.exclude_keys) if where.exclude_keys else frozenset()

    def by_index(
        self, rows: list[dict[str, Any]], frames: npt.NDArray[np.int64], fps: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Return which rows of an index meet the conditions on what an index holds, bool [rows].

        Args:
            rows: the index.
            frames: int64 [rows], frames of the clips.
            fps: float64 [rows], their frame rates.
        """
        where, seconds = self.where, frames / np.maximum(fps, 1e-9)
        good = (seconds >= where.min_seconds) & (frames >= where.min_frames) & (fps >= where.min_fps)
        if where.max_seconds:
            good &= seconds <= where.max_seconds
        if where.max_fps:
            good &= fps <= where.max_fps
        if self._keys is not None:
            good &= np.array([row["key"] in self._keys for row in rows], dtype=np.bool_)
        if self._excluded:
            good &= np.array([row["key"] not in self._excluded for row in rows], dtype=np.bool_)
        found: npt.NDArray[np.bool_] = good
        return found

    def by_record(self, record: SampleRecord) -> bool:
        """Tell whether a clip meets the conditions on what its record holds."""
        where = self.where
        return (
            min(record.width, record.height) >= where.min_side
            and (not where.labels or record.label in where.labels)
            and (not where.source or _fits(record.source, where.source))
            and not _fits(record.source, where.exclude_source)
        )


def read_keys(url: str) -> frozenset[str]:
    """Return the keys that a text file lists, one a line.

    Raises:
        ShardSetError: it is no text.
        StorageError: it can't be read.
    """
    try:
        lines = storage.read_bytes(url, retry=storage.AT_START).decode().splitlines()
    except UnicodeDecodeError as error:
        raise ShardSetError(f"{storage.redact(url)}: not a text file of keys: {error}") from error
    return frozenset(line.strip() for line in lines if line.strip())


def scan_shards(url: str, split: SplitEntry, where: Where) -> Iterator[tuple[int, ShardScan]]:
    """Yield the number of every shard of a split with what was found in it, in any order.

    Raises:
        ShardSetError: an index can't be understood or disagrees with the manifest.
        StorageError: something can't be read.
    """
    shards = [(number, shard.name, shard.clips) for number, shard in enumerate(split.shards)]
    processes = len(os.sched_getaffinity(0))
    if len(shards) < FEW_SHARDS or processes == 1:
        yield from _scan(url, shards, ClipMatcher(where))
        return
    yield from _in_processes(url, [shards[first::processes] for first in range(processes)], where)


def _scan(
    url: str, shards: Iterable[tuple[int, str, int]], matcher: ClipMatcher
) -> Iterator[tuple[int, ShardScan]]:
    with (
        concurrent.futures.ThreadPoolExecutor(_INDEX_READS) as indexes,
        concurrent.futures.ThreadPoolExecutor(_RECORD_READS) as records,
    ):
        waiting: collections.deque[
            tuple[int, str, int, concurrent.futures.Future[tuple[str, list[dict[str, Any]]]]]
        ]
        waiting = collections.deque()
        todo = iter(shards)
        while True:
            # A few ahead only: rows take far more memory than what is found in them.
            for number, name, clips in itertools.islice(todo, 2 * _INDEX_READS - len(waiting)):
                waiting.append((number, name, clips, indexes.submit(_rows, url, name)))
            if not waiting:
                return
            number, name, clips, future = waiting.popleft()
            tar, rows = future.result()
            if len(rows) != clips:
                raise ShardSetError(
                    f"{shardset.index_name(name)}: {len(rows)} samples, {clips} in the manifest"
                )
            try:
                found = _scanned(tar, rows, matcher, records)
            except (KeyError, TypeError, ValueError) as error:
                raise ShardSetError(
                    f"{shardset.index_name(name)}: missing or malformed field: {error}"
                ) from error
            yield number, found


def _scanned(
    tar: str,
    rows: list[dict[str, Any]],
    matcher: ClipMatcher,
    pool: concurrent.futures.ThreadPoolExecutor,
) -> ShardScan:
    # Columns: a set of ten million clips has as many rows, and Python takes a microsecond to look at one.
    frames = np.fromiter((row["frames"] for row in rows), dtype=np.int64, count=len(rows))
    fps = np.fromiter((row["fps"] for row in rows), dtype=np.float64, count=len(rows))
    sizes = np.fromiter((row["size"] for row in rows), dtype=np.int64, count=len(rows))
    chosen = matcher.by_index(rows, frames, fps) & (sizes > 0)
    if matcher.where.needs_records:
        asked = np.flatnonzero(chosen).tolist()
        found = pool.map(lambda number: _record(tar, SampleEntry.from_row(rows[number])), asked)
        chosen[asked] = [matcher.by_record(record) for record in found]
    return ShardScan(
        chosen=chosen,
        bytes=int(sizes[chosen].sum()),
        frames=int(frames[chosen].sum()),
        seconds=float((frames[chosen] / fps[chosen]).sum()),
    )


def _rows(url: str, name: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the tar and the rows of an index."""
    return understood(
        lambda: shardset.load_index_rows(url, name),
        again=lambda error: log.warning("%s; read again", error),
    )


def _record(tar: str, entry: SampleEntry) -> SampleRecord:
    """Return a clip's record: an adopted clip's stands in the index, another's in the tar."""
    return entry.video.record if entry.video is not None else read_record(tar, entry)


def _fits(source: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(source, pattern) for pattern in patterns)


def _in_processes(
    url: str, jobs: list[list[tuple[int, str, int]]], where: Where
) -> Iterator[tuple[int, ShardScan]]:
    """Scan every job in a process of its own; what is found comes as it is found."""
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def pass_on(process: subprocess.Popen[str], job: list[tuple[int, str, int]]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            json.dump({"url": url, "shards": job, "where": to_tree(where)}, process.stdin)
            process.stdin.close()
        for line in process.stdout:
            found.put(line)
        found.put(None)

    command = [sys.executable, "-m", "pal_ds.formats.clip_scan"]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in jobs
    ]
    try:
        for process, job in zip(processes, jobs, strict=True):
            threading.Thread(target=pass_on, args=(process, job), daemon=True).start()
        running, left = len(jobs), sum(map(len, jobs))
        while running:
            line = found.get()
            if line is None:
                running -= 1
                continue
            row = json.loads(line)
            if "error" in row:
                raise _ERRORS[row["error"]](*row["arguments"])
            bits = np.frombuffer(base64.b64decode(row["bits"]), dtype=np.uint8)
            chosen = np.unpackbits(bits)[: row["clips"]].astype(np.bool_)
            left -= 1
            yield row["number"], ShardScan(chosen, row["bytes"], row["frames"], row["seconds"])
        if left:
            raise ShardSetError(f"{storage.redact(url)}: a process that read indexes died; start again")
    finally:
        for process in processes:
            process.kill()
            process.wait()


_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        ShardSetError,
        storage.StorageError,
        storage.StorageAccessError,
        storage.StorageNotFoundError,
    )
}


def main() -> int:
    """Scan the shards of the job on stdin."""
    # Rows hold no circles, and looking for some among millions takes a quarter of the time.
    gc.disable()
    job = json.load(sys.stdin)
    where = build(Where, job["where"], "where.")
    try:
        for number, scan in _scan(job["url"], job["shards"], ClipMatcher(where)):
            bits = base64.b64encode(np.packbits(scan.chosen).tobytes()).decode()
            row = {"number": number, "clips": len(scan.chosen), "bits": bits}
            row |= {"bytes": scan.bytes, "frames": scan.frames, "seconds": scan.seconds}
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
    except (ShardSetError, storage.StorageError) as error:
        stored = isinstance(error, storage.StorageError)
        arguments = [error.url, error.reason] if isinstance(error, storage.StorageError) else [str(error)]
        row = {"error": type(error).__name__ if stored else "ShardSetError", "arguments": arguments}
        sys.stdout.write(json.dumps(row) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
