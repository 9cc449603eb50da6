"""Where this rank computes, and how ranks agree.

All collectives of the trainer outside the model are here, so that a reader can see what ranks ever wait for.
Numbers that hosts know travel between hosts (gloo), so that nobody waits for a device to exchange them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import socket
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pal_ds.distributed.collectives import all_gather_flat, all_reduce_max, all_reduce_sum
from pal_ds.distributed.cpu_malloc import keep_freed
from pal_ds.distributed.launcher import Place, meeting_point, read_place

_TEXT_BYTES = 400


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process's place in the world.

    Attributes:
        rank: 0 to ``world_size - 1``.
        world_size: number of ranks.
        local_rank: position on this host, picks the device.
        local_world_size: ranks on this host.
        device: where tensors live.
        hosts: the group by which hosts exchange what lies in their memory; None is the default group.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device: torch.device
    hosts: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that writes logs and checkpoints."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set on any rank (one small all-reduce)."""
        if self.world_size == 1:
            return flags
        values = torch.tensor([float(flag) for flag in flags])
        all_reduce_max(values, group=self.hosts)
        return tuple(value > 0 for value in values.tolist())

    def _group(self, values: Tensor) -> dist.ProcessGroup | None:
        """Return the group for tensors on this device."""
        return self.hosts if values.device.type == "cpu" else None

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over ranks of a small float tensor."""
        if self.world_size == 1:
            return values
        total = values.clone()
        all_reduce_sum(total, group=self._group(total))
        return total / self.world_size

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over ranks of a small float tensor."""
        if self.world_size > 1:
            values = values.clone()
            all_reduce_sum(values, group=self._group(values))
        return values

    def maximum(self, values: Tensor) -> Tensor:
        """Return the element-wise maximum over ranks."""
        if self.world_size > 1:
            values = values.clone()
            all_reduce_max(values, group=self._group(values))
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Return ``values`` of all ranks stacked in rank order, [W, ...]; shapes must be equal."""
        if self.world_size == 1:
            return values.unsqueeze(0)
        flat = values.contiguous().flatten()
        gathered = flat.new_empty(self.world_size * flat.numel())
        all_gather_flat(gathered, flat, group=self._group(flat))
        return gathered.view(self.world_size, *values.shape)

    def collect(self, rows: list[Any]) -> list[Any]:
        """Return the rows of all ranks in rank order; rows are plain values, and rarely any are there."""
        if self.world_size == 1:
            return rows
        everywhere: list[list[Any]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(everywhere, rows, group=self.hosts)
        return [row for part in everywhere for row in part]

    def share(self, text: str, *, source: int = 0) -> str:
        """Return the text of rank ``source`` on every rank."""
        if self.world_size == 1:
            return text
        length = torch.tensor([len(text.encode())])
        dist.broadcast(length, source, group=self.hosts)
        payload = torch.zeros(int(length.item()), dtype=torch.uint8)
        if self.rank == source and text:
            payload = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        dist.broadcast(payload, source, group=self.hosts)
        return bytes(payload.tolist()).decode()

    def texts(self, text: str) -> list[str]:
        """Return the non-empty texts of all ranks in rank order, cut to what one small gather carries."""
        encoded = text.encode()[:_TEXT_BYTES]
        payload = torch.zeros(_TEXT_BYTES, dtype=torch.uint8)
        if encoded:
            payload[: len(encoded)] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
        rows = self.gather(payload).tolist()
        decoded = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]
        return [found for found in decoded if found]

    def same_everywhere(self, digest: int) -> Sequence[int]:
        """Return the ranks whose 62-bit ``digest`` differs from rank 0's; empty when all agree."""
        found = self.gather(torch.tensor([digest], dtype=torch.int64)).flatten().tolist()
        return [rank for rank, value in enumerate(found) if value != found[0]]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            self.any(False)


def start(timeout_seconds: float, device_type: str | None = None) -> Ranks:
    """Join the process group through DeepSpeed and return this process's ranks.

    On CPU, DeepSpeed would compile a shared-memory operator at start; it is switched off, so that neither a
    compiler nor minutes are needed. There a rank computes with its share of the host's cores, or with
    ``OMP_NUM_THREADS`` threads where that is set.

    Args:
        timeout_seconds: after which a collective that a rank never joins fails.
        device_type: ``cuda`` or ``cpu``; None takes a GPU where there is one.

    Raises:
        ConfigError: the launcher's variables contradict each other, or don't say where ranks meet.
    """
    place = read_place()
    cuda = torch.cuda.is_available() if device_type is None else device_type == "cuda"
    if cuda:
        # A collective that fails, because its peer has died, ends the process instead of waiting for ever.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    else:
        os.environ["DS_ACCELERATOR"] = "cpu"
        # The user's word counts: runs that share cores get slower than one after the other by waiting in spins.
        if not os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(
                max(1, (len(os.sched_getaffinity(0)) or 1) // max(1, place.local_world_size))
            )
        keep_freed()
    _complete_environment(place)
    device = torch.device("cuda", place.local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    import deepspeed

    if not cuda:
        with contextlib.suppress(ImportError):
            from deepspeed.ops import __compatible_ops__

            __compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if cuda else "gloo",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=datetime.timedelta(seconds=timeout_seconds),
    )
    # NCCL carries what devices hold; hosts that exchange a few numbers over it would wait for their devices.
    hosts = (
        dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=timeout_seconds)) if cuda else None
    )
    return Ranks(place.rank, place.world_size, place.local_rank, place.local_world_size, device, hosts)


def stop() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


def _complete_environment(place: Place) -> None:
    """Set what torch and DeepSpeed read, where the launcher (or nobody) left it out."""
    host, port = meeting_point(place)
    if place.world_size == 1 and "MASTER_PORT" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    values = {
        "RANK": place.rank,
        "WORLD_SIZE": place.world_size,
        "LOCAL_RANK": place.local_rank,
        "LOCAL_WORLD_SIZE": place.local_world_size,
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in values.items()})
