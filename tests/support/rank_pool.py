"""Two processes in a gloo group that run module-level functions on request: collectives without a launcher."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

RANKS = 2
REPLY_SECONDS = 120


class RankPool:
    """A gloo group of two processes that lives as long as the pool."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(RANKS):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(folder / "store"), theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call ``function(rank, *args)`` on every rank and return the results in rank order."""
        for pipe in self._pipes:
            pipe.send((function, args))
        replies = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(REPLY_SECONDS):
                raise TimeoutError(f"rank {rank} did not answer")
            replies.append(pipe.recv())
        for failed, value in replies:
            if failed:
                raise AssertionError(value)
        return [value for _, value in replies]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(30)
            if process.is_alive():
                process.kill()


def _serve(rank: int, store: str, pipe: Connection) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    while (task := pipe.recv()) is not None:
        function, args = task
        try:
            pipe.send((False, function(rank, *args)))
        except Exception:
            pipe.send((True, f"rank {rank}: {traceback.format_exc()}"))
    dist.destroy_process_group()
