"""The inside of a worker process: a chain of plain webdataset stages that ends in shared memory."""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import functools
import logging
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch
import webdataset
from torch import Tensor

from pal_ds import storage
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.clip_cache import CacheSpec, ClipCache
from pal_ds.data.clip_stream import ClipStream
from pal_ds.data.decode import decode_frames
from pal_ds.data.frame_cache import FrameCache
from pal_ds.data.order.group_schedule import Schedule
from pal_ds.data.shard_list import ShardList
from pal_ds.data.synthesis.group_builder import Built, GroupBuilder
from pal_ds.data.workers.heap_trim import trimmed
from pal_ds.data.workers.shared_memory import Ring
from pal_ds.storage import ReadCounters, RetryPolicy

_PR_SET_PDEATHSIG = 1
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """Everything a worker needs to know; small and picklable.

    Attributes:
        shards: the shards, by number.
        clip_bytes: mean bytes of a clip.
        whole_windows: read whole windows instead of group by group.
        budget_bytes: encoded video that may be held.
        threads: range reads in flight.
        retry: how long failing reads are tried again.
        schedule: this rank's groups.
        seed: the run's seed.
        synthesis: how synthetic videos are made.
        augment: how they are augmented.
        resize: "device" or "worker".
        labels: class numbers by name.
        worker: number of this worker.
        workers: workers of this rank.
        start: the rank's group to begin at.
        hung: clips that hung the decoder, with the reason.
        decode_timeout: seconds a clip may take; 0 for ever.
        device: where clips are decoded: "cpu" or a CUDA device.
        clips: clips after which the worker announces its end, to be replaced by a fresh one; 0 never.
        last_groups: groups that it still builds from then on, while its successor starts.
        cache: of samples, and of frames where it says so, on a local disk; or None.
    """

    shards: ShardList
    clip_bytes: int
    whole_windows: bool
    budget_bytes: int
    threads: int
    retry: RetryPolicy
    schedule: Schedule
    seed: int
    synthesis: SynthesisConfig
    augment: AugmentConfig
    resize: str
    labels: Mapping[str, int]
    worker: int = 0
    workers: int = 1
    start: int = 0
    hung: Mapping[str, str] = dataclasses.field(default_factory=dict)
    decode_timeout: float = 0.0
    device: str = "cpu"
    clips: int = 0
    last_groups: int = 1
    cache: CacheSpec | None = None


class Chain:
    """One worker's chain: tasks, encoded clips, built groups.

    Args:
        spec: what to build.
        slot: gives the memory for the next group.
        watch: called with a key before and None after every decode.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        slot: Callable[[], Tensor],
        watch: Callable[[str | None], None] = lambda _key: None,
    ) -> None:
        self._stream = ClipStream(
            spec.shards,
            clip_bytes=spec.clip_bytes,
            budget_bytes=spec.budget_bytes,
            whole_windows=spec.whole_windows,
            threads=spec.threads,
            retry=spec.retry,
            cache=None if spec.cache is None else ClipCache(spec.cache),
        )
        self._frames = FrameCache(spec.cache) if spec.cache is not None and spec.cache.frames else None
        decode = functools.partial(decode_frames, device=spec.device)
        builder = GroupBuilder(
            schedule=spec.schedule,
            fetch=self._stream.fetch,
            synthesis=spec.synthesis,
            augment=spec.augment,
            seed=spec.seed,
            resize=spec.resize,
            labels=spec.labels,
            shard_label=spec.shards.label,
            hung=spec.hung,
            watch=watch,
            decode=decode if self._frames is None else self._frames.frames,
            sources=len(spec.shards.runs),
        )
        self._pipeline = webdataset.DataPipeline(
            lambda: spec.schedule.tasks(spec.start, spec.worker, spec.workers),
            self._stream.groups,
            lambda groups: builder.stage(groups, slot),
        )
        self._counted = ReadCounters()

    def __iter__(self) -> Iterator[Built]:
        return trimmed(self._pipeline)

    def new_counts(self) -> ReadCounters:
        """Return what was read since the last call."""
        now = dataclasses.replace(self._stream.counters)
        before, self._counted = self._counted, now
        return ReadCounters(
            bytes=now.bytes - before.bytes,
            requests=now.requests - before.requests,
            retries=now.retries - before.retries,
            wait_seconds=now.wait_seconds - before.wait_seconds,
            cached_bytes=now.cached_bytes - before.cached_bytes,
        )

    def close(self) -> None:
        """Drop what is under way."""
        self._stream.close()
        if self._frames is not None:
            self._frames.close()


class _StopError(Exception):
    """The loader doesn't want any more groups."""


class _Reporter:
    """The worker's end of the pipe: messages out, free slots in."""

    def __init__(self, connection: Connection, ring: Ring, free: tuple[int, ...]) -> None:
        self._connection = connection
        self._ring = ring
        self._free = collections.deque(free)
        self._lock = threading.Lock()
        self.current = -1

    def slot(self) -> Tensor:
        """Wait for a free slot and return its memory."""
        while not self._free:
            self._receive()
        self.current = self._free.popleft()
        return self._ring.slot(self.current)

    def wait_for_stop(self) -> None:
        """Stay until the loader is done: an exit would look like a crash."""
        while True:
            self._receive()

    def _receive(self) -> None:
        try:
            message = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - from the parent process
        except (EOFError, OSError) as error:
            raise _StopError from error
        if message is None:
            raise _StopError
        self._free.append(message)

    def send(self, *message: Any) -> None:
        """Send one message to the loader; tensors must not be in it."""
        data = pickle.dumps(message, protocol=5)
        with self._lock:
            self._connection.send_bytes(data)

    def send_hung_and_die(self, key: str, seconds: float) -> None:
        """Tell which clip hangs, and go: a thread inside the decoder can't be stopped in any other way."""
        data = pickle.dumps(("hung", key, f"decoder hangs: stopped after {seconds:.0f} s"), protocol=5)
        with self._lock:
            self._connection.send_bytes(data)
            os.kill(os.getpid(), signal.SIGKILL)


class _Watchdog(threading.Thread):
    """Ends a worker whose decoder hangs or whose parent has died."""

    def __init__(self, reporter: _Reporter, timeout: float) -> None:
        super().__init__(name="pal-watchdog", daemon=True)
        self._reporter = reporter
        self._timeout = timeout
        self._parent = os.getppid()
        self._under_way: tuple[str, float] | None = None

    def watch(self, key: str | None) -> None:
        """Note which clip is being decoded."""
        self._under_way = None if key is None else (key, time.monotonic())

    def run(self) -> None:
        """Look every second, or more often for short timeouts."""
        while True:
            time.sleep(min(1.0, self._timeout / 4 or 1.0))
            if os.getppid() != self._parent:
                os._exit(1)
            under_way = self._under_way
            if under_way is not None and 0 < self._timeout < time.monotonic() - under_way[1]:
                self._reporter.send_hung_and_die(under_way[0], self._timeout)


def worker_main(
    spec: WorkerSpec,
    connection: Connection,
    ring: Ring,
    free: tuple[int, ...],
    environment: dict[str, str],
) -> None:
    """Build this worker's groups until told to stop.

    Signals of a terminal or scheduler are the training process's business: it decides when workers end.
    The environment is handed over because a fork server keeps the one it was started with, credentials included.
    """
    os.environ.update(environment)
    storage.read_environment()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    torch.set_num_threads(1)
    reporter = _Reporter(connection, ring, free)
    watchdog = _Watchdog(reporter, spec.decode_timeout)
    watchdog.start()
    chain = Chain(spec, reporter.slot, watchdog.watch)
    clips, last = 0, -1
    try:
        for built in chain:
            reporter.send("group", reporter.current, packed(built), chain.new_counts())
            clips += len(built.group)
            if last < 0 and 0 < spec.clips <= clips:
                reporter.send("worn", spec.last_groups)
                last = spec.last_groups + 1
            last -= last > 0
            if last == 0:
                break
        else:
            reporter.wait_for_stop()
    except (_StopError, BrokenPipeError, ConnectionResetError):
        pass
    except Exception as error:
        reporter.send("error", portable(error), traceback.format_exc())
    finally:
        chain.close()
        # Reads under way must not keep the process: nothing here needs flushing.
        os._exit(0)


def portable(error: Exception) -> Exception:
    """Return the error if it survives pickling, else a RuntimeError with its text."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made one expression earlier
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if type(copy) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")


def packed(built: Built) -> dict[str, Any]:
    """Return a built group without its pixels, tensors as arrays: small and quick to pickle."""
    fields = {field.name: getattr(built.group, field.name) for field in dataclasses.fields(built.group)}
    pixels = fields.pop("pixels").numel()
    arrays = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in fields.items()}
    return {
        "fields": arrays,
        "pixels": pixels,
        "replaced": built.replaced,
        "decode_seconds": built.decode_seconds,
    }
