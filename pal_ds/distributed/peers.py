"""This process among its peers, read from the environment that ``deepspeed``, ``torchrun`` and SLURM set.

Extraction needs no collective while it works. Peers meet once, at the end, so that one of them writes the list
of errors and all end with the same status (a launcher kills the others when one rank fails early).
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch

from pal_ds.config.base import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Rank, number of ranks, and number on this host."""

    rank: int
    world_size: int
    local_rank: int


def read_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Return this process's place.

    Raises:
        ConfigError: malformed, or several ranks without ``MASTER_ADDR`` and ``MASTER_PORT`` to meet at.
    """

    def number(default: int, *names: str) -> int:
        for name in names:
            if value := environment.get(name):
                try:
                    return int(value)
                except ValueError as error:
                    raise ConfigError(name, value, "use a whole number") from error
        return default

    world_size = number(1, "WORLD_SIZE")
    place = Place(
        rank=number(0, "RANK") if world_size > 1 else 0,
        world_size=world_size,
        local_rank=number(0, "LOCAL_RANK", "SLURM_LOCALID"),
    )
    if not 0 <= place.rank < world_size:
        raise ConfigError("RANK", place.rank, f"use 0 to {world_size - 1} (WORLD_SIZE is {world_size})")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if world_size > 1 and missing:
        raise ConfigError(
            missing[0], "", f"set it: {world_size} ranks meet there at the end (deepspeed and torchrun do)"
        )
    return place


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
    """The ranks of one launch; a context that leaves the process group it made."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __enter__(self) -> Peers:
        if self.place.world_size > 1:
            # Gloo over the launcher's address: no GPU, compiler or DeepSpeed extension is needed for one
            # exchange; ranks may arrive days apart.
            torch.distributed.init_process_group(
                "gloo",
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
