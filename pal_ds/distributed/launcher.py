"""Which rank this process is, as any launcher tells it: deepspeed, torchrun, srun, or nobody. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from pal_ds.config.base import ConfigError, check

DEFAULT_PORT = 29500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """This process among all that were started together.

    Attributes:
        rank: 0 to ``world_size - 1``.
        world_size: number of ranks.
        local_rank: number on this host; picks the device.
        local_world_size: ranks on this host; ``world_size`` where nobody says.
        one_host: whether all ranks are known to be on this host.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    one_host: bool = True


def read_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Read this process's place; ``RANK`` and ``WORLD_SIZE`` go before what SLURM says.

    Raises:
        ConfigError: no whole numbers, or a rank outside the world.
    """
    under_slurm = not (environment.get("RANK") or environment.get("WORLD_SIZE"))
    names = ("SLURM_PROCID", "SLURM_NTASKS") if under_slurm else ("RANK", "WORLD_SIZE")
    rank, world_size = _number(environment, names[0]) or 0, _number(environment, names[1])
    world_size = 1 if world_size is None else world_size
    check(world_size >= 1, names[1], world_size, "use 1 or more")
    check(0 <= rank < world_size, names[0], rank, f"use 0 to {world_size - 1} ({names[1]} is {world_size})")
    local = _first(environment, "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")
    nodes = _number(environment, "SLURM_NNODES")
    if local is None and nodes and under_slurm:
        local = -(-world_size // nodes)
    return Place(
        rank=rank,
        world_size=world_size,
        local_rank=_first(environment, "LOCAL_RANK", "SLURM_LOCALID") or 0,
        local_world_size=world_size if local is None else local,
        one_host=world_size == 1 or (local is not None and local >= world_size),
    )


def meeting_point(place: Place, environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Return host and port at which several ranks find one another.

    Raises:
        ConfigError: the ranks may be on several hosts, and nobody says where rank 0 is.
    """
    host = environment.get("MASTER_ADDR") or ("127.0.0.1" if place.one_host else "")
    check(bool(host), "MASTER_ADDR", "", f"set it to rank 0's host, where {place.world_size} ranks meet")
    port = _number(environment, "MASTER_PORT")
    return host, DEFAULT_PORT if port is None else port


def _first(environment: Mapping[str, str], *names: str) -> int | None:
    found = (_number(environment, name) for name in names)
    return next((number for number in found if number is not None), None)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(name, value, "use a whole number") from error
