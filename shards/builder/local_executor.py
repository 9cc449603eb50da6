"""Makes shards: on this machine with a pool of threads that drive ffmpeg processes."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from pal_ds import storage
from pal_ds.ffmpeg import process
from pal_ds.formats import shardset
from pal_ds.formats.shardset import ShardEntry

from ..catalog.films import Films
from ..catalog.origins import Origins
from ..catalog.rows import Reject, Row
from ..encoding.profiles import Profile
from ..encoding.transcode import Clip, ClipLimits, Transcoder
from ..progress import Progress
from .journal import Journal
from .pack import write_shard
from .shard_plan import PlannedShard
from .unfinished import Part

#: Clips of one job: few enough to spread, enough to decode the results of a job in one process.
CLIPS_PER_JOB = 24
#: Makes a shard of its clips and rejects, which lie in a scratch folder, and removes that folder.
Publish: TypeAlias = Callable[[PlannedShard, Sequence[Clip | Reject], Path], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardWork:
    """What every shard of a build needs to be made; small and picklable.

    Attributes:
        dest: the shard set's folder.
        roots: where the sources lie.
        profile: how clips are encoded.
        limits: what is still a clip.
        with_labels: records carry class names.
    """

    dest: str
    roots: tuple[str, ...]
    profile: Profile
    limits: ClipLimits
    with_labels: bool


def run_local(
    work: ShardWork,
    shards: Sequence[PlannedShard],
    rows_of: Callable[[PlannedShard], list[Row]],
    *,
    workers: int,
    scratch: Path,
    progress: Progress,
    publish: Publish | None = None,
) -> int:
    """Make shards one after the other, the clips of two or three at a time, and publish each when it is whole.

    Args:
        work: what every shard needs.
        shards: the shards to make.
        rows_of: the clips of a shard; called when its turn comes.
        workers: ffmpeg processes at a time.
        scratch: for clips under way.
        progress: told of every clip.
        publish: makes a shard of its finished clips; None packs them into a tar.

    Returns:
        The number of shards made.

    Raises:
        BuildError: a tool or the scratch disk fails.
        StorageError: a store fails beyond its budget.
    """
    origins = Origins(work.roots, films=Films(scratch))
    # Threads that wait for a remote source leave their core to others.
    threads = workers * 2 if origins.remote else workers
    transcoder = Transcoder(
        work.profile,
        work.limits,
        origins,
        with_labels=work.with_labels,
        cpu_slots=threading.BoundedSemaphore(workers) if origins.remote else None,
    )
    made = 0
    open_shards: collections.deque[tuple[PlannedShard, Path, list[Future[list[Clip | Reject]]]]] = (
        collections.deque()
    )
    publishing: collections.deque[Future[None]] = collections.deque()
    publish = publish or functools.partial(publish_shard, work.dest)
    with ThreadPoolExecutor(threads, "clips") as pool, ThreadPoolExecutor(1, "publish") as publisher:
        try:
            for shard in shards:
                rows = rows_of(shard)
                sizes = job_sizes(len(rows), threads, is_last=shard is shards[-1])
                open_shards.append(_submit(pool, transcoder, shard, rows, sizes, scratch))
                made += 1
                waiting = sum(not job.done() for _, _, jobs in open_shards for job in jobs)
                while open_shards and waiting > 2 * threads:
                    _close(open_shards.popleft(), publish, publisher, publishing, progress)
                    waiting = sum(not job.done() for _, _, jobs in open_shards for job in jobs)
                while len(publishing) > 2:
                    publishing.popleft().result()
            while open_shards:
                _close(open_shards.popleft(), publish, publisher, publishing, progress)
            while publishing:
                publishing.popleft().result()
        except BaseException:
            process.stop_all()
            pool.shutdown(wait=False, cancel_futures=True)
            publisher.shutdown(wait=False, cancel_futures=True)
            raise
    return made


def make_shard(
    work: ShardWork, shard: PlannedShard, rows: Sequence[Row], scratch: Path
) -> tuple[int, list[str]]:
    """Make and publish one shard in this thread: the unit of work of a cluster's worker.

    Returns:
        Bytes of clips packed, and the stages of the rejects.
    """
    origins = Origins(work.roots, films=Films(scratch))
    transcoder = Transcoder(work.profile, work.limits, origins, with_labels=work.with_labels)
    folder = scratch / shardset.shard_name(shard.split, shard.number).removesuffix(".tar")
    folder.mkdir()
    results: list[Clip | Reject] = []
    for start in range(0, len(rows), CLIPS_PER_JOB):
        results += transcoder.make_clips(rows[start : start + CLIPS_PER_JOB], folder)
    publish_shard(work.dest, shard, results, folder)
    clips = [result for result in results if isinstance(result, Clip)]
    rejects = [result.stage for result in results if isinstance(result, Reject)]
    return sum(clip.record.bytes for clip in clips), rejects


def publish_shard(dest: str, shard: PlannedShard, results: Sequence[Clip | Reject], folder: Path) -> None:
    """Pack a shard in scratch, publish tar and index, then its part, which makes it finished."""
    name = shardset.shard_name(shard.split, shard.number)
    clips = [result for result in results if isinstance(result, Clip)]
    entry = None
    if clips:
        tar = folder / name
        entry, index = write_shard(tar, name, clips)
        storage.upload_file(tar, storage.join(dest, name))
        storage.write_bytes(storage.join(dest, shardset.index_name(name)), index.to_json())
    Journal(dest).write_part(part_of(name, entry, results))
    shutil.rmtree(folder, ignore_errors=True)


def part_of(shard: str, entry: ShardEntry | None, results: Sequence[Clip | Reject]) -> Part:
    """Describe a finished shard."""
    clips = [result for result in results if isinstance(result, Clip)]
    labels = {clip.record.label for clip in clips if clip.record.label is not None}
    return Part(
        shard=shard,
        entry=entry,
        frames=sum(clip.record.frames for clip in clips),
        seconds=round(math.fsum(clip.record.duration for clip in clips), 6),
        labels=tuple(sorted(labels)),
        rejects=tuple(result for result in results if isinstance(result, Reject)),
        contents=tuple((clip.record.key, clip.record.sha256[:16]) for clip in clips),
    )


def job_sizes(clips: int, threads: int, *, is_last: bool) -> list[int]:
    """Cut a shard into jobs: large ones for thrift, and ever smaller ones at the end of the build for even loads.

    Args:
        clips: of the shard.
        threads: that work on jobs.
        is_last: no further shard keeps the threads busy while the last jobs of this one are done.
    """
    sizes: list[int] = []
    usual = min(CLIPS_PER_JOB, math.ceil(clips / threads))
    while clips:
        even = max(math.ceil(clips / (2 * threads)), 2 if clips > threads else 1)
        sizes.append(min(clips, usual, even) if is_last else min(clips, usual))
        clips -= sizes[-1]
    return sizes


def _submit(
    pool: ThreadPoolExecutor,
    transcoder: Transcoder,
    shard: PlannedShard,
    rows: Sequence[Row],
    sizes: Sequence[int],
    scratch: Path,
) -> tuple[PlannedShard, Path, list[Future[list[Clip | Reject]]]]:
    folder = scratch / shardset.shard_name(shard.split, shard.number).removesuffix(".tar")
    folder.mkdir()
    ends = list(itertools.accumulate(sizes))
    jobs = [
        pool.submit(transcoder.make_clips, rows[end - size : end], folder)
        for end, size in zip(ends, sizes, strict=True)
    ]
    return shard, folder, jobs


def _close(
    opened: tuple[PlannedShard, Path, list[Future[list[Clip | Reject]]]],
    publish: Publish,
    publisher: ThreadPoolExecutor,
    publishing: collections.deque[Future[None]],
    progress: Progress,
) -> None:
    """Wait for a shard's clips and hand them to the publisher."""
    shard, folder, jobs = opened
    results: list[Clip | Reject] = []
    for job in jobs:
        for result in job.result():
            results.append(result)
            if isinstance(result, Clip):
                progress.clip(result.record.bytes)
            else:
                progress.reject(result.stage)
    publishing.append(publisher.submit(publish, shard, results, folder))
