"""The training process's side of the workers: takes groups in exact order, restarts what dies."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pal_ds.data.batch import Group
from pal_ds.data.errors import WorkerLostError
from pal_ds.data.synthesis.group_builder import Built
from pal_ds.data.workers.group_source import Taken
from pal_ds.data.workers.shared_memory import Ring
from pal_ds.data.workers.worker_process import WorkerSpec, worker_main

log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Worker:
    """One worker as its parent sees it.

    Attributes:
        process: the process.
        connection: our end of the pipe.
        ready: finished groups that have arrived.
        start: the next group it will send.
        held: slots that are ready or in use.
        error: what it ended with.
        left: groups that it will still send before it ends, since it has built as many clips as a worker should;
            -1 where it goes on.
        successor: the worker that takes its place then, already starting.
        granted: slots that it was given and has not filled yet.
    """

    process: Any
    connection: Any
    start: int
    ready: collections.deque[Taken] = dataclasses.field(default_factory=collections.deque)
    held: set[int] = dataclasses.field(default_factory=set)
    error: tuple[Exception, str] | None = None
    left: int = -1
    successor: _Worker | None = None
    granted: set[int] = dataclasses.field(default_factory=set)


class WorkerPool:
    """Worker processes that write groups into shared memory.

    Args:
        spec: what to build; worker numbers and start are filled in here.
        workers: number of processes.
        slots: slots of each worker.
        slot_bytes: bytes a group can need.
        start: the rank's first group.
        start_method: "forkserver", "fork" or "spawn".
        max_restarts: workers lost before giving up.
        pin: page-lock the memory for a CUDA device.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        workers: int,
        slots: int,
        slot_bytes: int,
        start: int,
        start_method: str,
        max_restarts: int,
        pin: bool,
    ) -> None:
        self.restarts = 0
        self._spec = dataclasses.replace(spec, workers=workers, last_groups=max(1, slots - 1))
        self._max_restarts = max_restarts
        self._hung = dict(spec.hung)
        self._context: Any = multiprocessing.get_context(start_method)
        if start_method == "forkserver":
            self._context.set_forkserver_preload(["pal_ds.data.workers.worker_process"])
        self._rings = [Ring(slots, slot_bytes) for _ in range(workers)]
        self._pinned = [ring for ring in self._rings if pin and _page_lock(ring.memory)]
        self._processes: dict[int, Any] = {}
        # An interpreter that ends with the pool open would else send SIGTERM, which workers ignore, and wait.
        self._end = multiprocessing.util.Finalize(self, _kill, args=(self._processes,), exitpriority=10)
        self._workers = [self._started(worker, start, set()) for worker in range(workers)]

    def take(self, number: int) -> Taken:
        """Return group ``number`` of the rank, waiting for the worker that owns it.

        Raises:
            WorkerLostError: workers died too often.
            Exception: whatever ended the worker, as the same class.
        """
        worker = self._spec.schedule.owner(number, len(self._workers))
        while not self._workers[worker].ready:
            self._collect(worker, wait=True)
        for other in range(len(self._workers)):
            self._collect(other, wait=False)
        return self._workers[worker].ready.popleft()

    def release(self, taken: Taken) -> None:
        """Give a slot back to its worker."""
        state = self._workers[taken.worker]
        state.held.discard(taken.slot)
        heir = state.successor
        # A worker that ends gets as many slots as it has groups to build, its successor the others.
        if heir is not None and len(state.granted) >= state.left:
            heir.held.discard(taken.slot)
            state = heir
        _grant(state, taken.slot)

    def ready(self) -> int:
        """Return how many groups are finished and waiting."""
        for worker in range(len(self._workers)):
            self._collect(worker, wait=False)
        return sum(len(state.ready) for state in self._workers)

    def close(self) -> None:
        """End all workers and give the memory back."""
        for state in self._workers:
            with contextlib.suppress(OSError):
                state.connection.send_bytes(pickle.dumps(None))
        for state in self._workers:
            if state.successor is not None:
                _end(state.successor)
        for state in self._workers:
            state.process.join(timeout=0.5)
            _end(state)
        self._processes.clear()
        for ring in self._pinned:
            _cudart().cudaHostUnregister(ring.memory.data_ptr())
        for ring in self._rings:
            ring.close()
        self._workers, self._rings, self._pinned = [], [], []

    def _started(self, worker: int, start: int, held: set[int]) -> _Worker:
        """Start a worker at the rank's group ``start`` with all slots but the held ones."""
        ours, theirs = self._context.Pipe(duplex=True)
        ring = self._rings[worker]
        spec = dataclasses.replace(self._spec, worker=worker, start=start, hung=dict(self._hung))
        free = tuple(slot for slot in range(ring.slots) if slot not in held)
        process = self._context.Process(
            target=worker_main,
            args=(spec, theirs, ring, free, dict(os.environ)),
            name=f"pal-worker-{worker}",
            daemon=True,
        )
        with _without_main_module(), _sigterm_blocked():
            process.start()
        theirs.close()
        self._processes[process.pid] = process
        return _Worker(process=process, connection=ours, start=start, held=set(held), granted=set(free))

    def _collect(self, worker: int, *, wait: bool) -> None:
        """Take in what a worker has sent; restart it if it has died."""
        state = self._workers[worker]
        if wait and state.error is not None:
            error, text = state.error
            error.add_note(f"in worker {worker}:\n{text}")
            raise error
        try:
            if wait:
                multiprocessing.connection.wait([state.connection, state.process.sentinel])
            while state.connection.poll():
                self._received(worker, pickle.loads(state.connection.recv_bytes()))  # noqa: S301 - own worker
        except (EOFError, OSError, pickle.UnpicklingError):
            self._restart(worker)
            return
        if wait and not state.ready and state.error is None and not state.process.is_alive():
            self._restart(worker)

    def _received(self, worker: int, message: tuple[Any, ...]) -> None:
        state = self._workers[worker]
        kind, *content = message
        if kind == "group":
            slot, fields, counts = content
            built = _unpacked(fields, self._rings[worker].slot(slot))
            state.ready.append(Taken(built, counts, worker, slot))
            state.held.add(slot)
            state.granted.discard(slot)
            state.start = self._number_after(worker, state.start)
            state.left -= state.left > 0
            if state.successor is not None:
                state.successor.held.add(slot)
        elif kind == "hung":
            key, reason = content
            log.warning("clip %s: %s", key, reason)
            self._hung[key] = reason
        elif kind == "worn":
            state.left = content[0]
            start = state.start
            for _ in range(state.left):
                start = self._number_after(worker, start)
            state.successor = self._started(worker, start, set(range(self._rings[worker].slots)))
        elif kind == "error":
            state.error = (content[0], content[1])

    def _number_after(self, worker: int, start: int) -> int:
        """Return the number after the worker's next one: where it would go on."""
        for number in itertools.count(start):
            if self._spec.schedule.owner(number, len(self._workers)) == worker:
                return number + 1
        raise AssertionError

    def _restart(self, worker: int) -> None:
        state = self._workers[worker]
        if state.error is not None:
            return
        state.process.join(timeout=5)
        self._processes.pop(state.process.pid, None)
        fresh = state.successor
        if state.left == 0 and fresh is not None:
            # Its successor has been at work for a while; now it gets what this one kept.
            fresh.held -= state.granted
            for slot in sorted(state.granted):
                _grant(fresh, slot)
        else:
            self._count_loss(worker, state.process.exitcode)
            if fresh is not None:
                _end(fresh)
                self._processes.pop(fresh.process.pid, None)
            fresh = self._started(worker, state.start, state.held)
        state.connection.close()
        fresh.ready = state.ready
        self._workers[worker] = fresh

    def _count_loss(self, worker: int, status: int | None) -> None:
        self.restarts += 1
        if self.restarts > self._max_restarts:
            raise WorkerLostError(
                f"data worker {worker} ended with status {status}; {self.restarts} workers lost, more than "
                f"data.max_worker_restarts = {self._max_restarts} (out of memory? lower data.workers)"
            )
        log.warning("data worker %d ended with status %s; restarted where it was", worker, status)


def _grant(state: _Worker, slot: int) -> None:
    """Give a worker a slot to fill; one that has died is found out where its groups are waited for."""
    state.granted.add(slot)
    with contextlib.suppress(OSError):
        state.connection.send_bytes(pickle.dumps(slot))


def _end(state: _Worker) -> None:
    """End a worker, whatever it does."""
    if state.process.is_alive():
        state.process.kill()
    state.process.join()
    state.connection.close()


def _kill(processes: dict[int, Any]) -> None:
    """End the workers of a pool that nobody closed."""
    for process in processes.values():
        process.kill()


def _unpacked(message: dict[str, Any], slot: Tensor) -> Built:
    fields = dict(message["fields"])
    for name in ("colour", "contrast", "region", "beta", "pairs", "labels", "boundaries"):
        if fields[name] is not None:
            fields[name] = torch.from_numpy(fields[name])
    group = Group(pixels=slot[: message["pixels"]], **fields)
    return Built(group, message["replaced"], message["decode_seconds"])


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _page_lock(memory: Tensor) -> bool:
    """Register host memory with CUDA, so that copies to the device overlap with work."""
    if not torch.cuda.is_available():
        return False
    status = int(_cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), 0))
    if status:
        log.warning(
            "workers' memory could not be page-locked (CUDA error %d): copies will not overlap", status
        )
    return status == 0


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep children from importing the training script again: they need none of what it imports (DeepSpeed)."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        main.__spec__ = None
        if "__file__" in hidden:
            del main.__file__
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


@contextlib.contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """Block SIGTERM in what is started meanwhile: the fork server would die of it, and take its workers along.

    A signal to the whole process group means the rank, which needs batches until it has saved. The server ends with
    the rank, when its pipe is closed.
    """
    multiprocessing.resource_tracker.ensure_running()  # started later, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
