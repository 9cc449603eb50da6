"""Ranks that work alone and meet at the start and at the end, as in extraction.

Extraction needs no collective while it works. Peers meet once more at the end, so that one of them writes the list
of errors and all end with the same status (a launcher kills the others when one rank fails early).
"""

from __future__ import annotations

import datetime
from types import TracebackType
from typing import Any

import torch

from pal_ds.config.base import ConfigError
from pal_ds.distributed.launcher import Place, meeting_point


def pick_device(wanted: str, place: Place) -> torch.device:
    """Return the device of this rank: ``auto`` takes its own GPU where there is one, else the CPU.

    Raises:
        ConfigError: unknown, or CUDA asked for where there is none.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError("--device", wanted, "use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device", wanted, "this machine has no usable CUDA device; use --device cpu")
    if wanted == "cuda":
        device = torch.device("cuda", place.local_rank % torch.cuda.device_count())
    return device


class Peers:
    """The ranks of one launch; a context that leaves the process group it made.

    Raises:
        ConfigError: on entering, several ranks on several hosts without ``MASTER_ADDR`` to meet at.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def __enter__(self) -> Peers:
        if self.place.world_size > 1:
            # Gloo over the launcher's address: no GPU, compiler or DeepSpeed extension is needed for one
            # exchange; ranks may arrive days apart.
            host, port = meeting_point(self.place)
            torch.distributed.init_process_group(
                "gloo",
                init_method=f"tcp://{host}:{port}",
                rank=self.place.rank,
                world_size=self.place.world_size,
                timeout=datetime.timedelta(days=30),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.place.world_size > 1 and kind is None:
            torch.distributed.destroy_process_group()

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's ``value`` in order of rank, on every rank; waits for the slowest."""
        if self.place.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.place.world_size
        torch.distributed.all_gather_object(values, value)
        return values
