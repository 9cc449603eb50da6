"""The first-in first-out memory of keys (He et al., 2020), held by every rank alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pal_ds.models.layers.numerics import at_least_fp32, unit


class KeyQueue(nn.Module):
    """Ring buffer of key vectors that serve as negatives.

    Starts as random unit rows, as in MoCo. The pointer lives on the device, so a write never waits for it.

    Args:
        size: K, any number at or above 1.
        dim: vector size D.
        mask_unfilled: rows without a key yet are left out of the negatives.
        recordings: remember which recording each key is of.

    Attributes:
        keys: fp32 [K, D].
        pointer: int64, the row the next key goes to.
        filled: int64, how many rows hold real keys.
        recordings: int64 [K], the recording of each key, -1 where there is none; None where not asked for.
    """

    keys: Tensor
    pointer: Tensor
    filled: Tensor
    recordings: Tensor | None

    def __init__(self, size: int, dim: int, *, mask_unfilled: bool = False, recordings: bool = False) -> None:
        super().__init__()
        self.mask_unfilled = mask_unfilled
        self.register_buffer("keys", unit(torch.randn(size, dim)))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("recordings", torch.full((size,), -1) if recordings else None)

    @property
    def size(self) -> int:
        """K, the number of rows."""
        return self.keys.shape[0]

    @property
    def fill(self) -> float:
        """Share of rows that hold real keys, 0 to 1; reads the device."""
        return float(self.filled.item()) / self.size

    def excluded(self, recordings_b: Tensor | None = None) -> Tensor | None:
        """Rows to leave out of the negatives, bool [K] or [B, K], or None where every row counts.

        Args:
            recordings_b: int64 [B]: leave out what was cut from the query's own recording too.
        """
        unfilled_k = None
        if self.mask_unfilled:
            unfilled_k = torch.arange(self.size, device=self.keys.device) >= self.filled
        if recordings_b is None or self.recordings is None:
            return unfilled_k
        same_bk = recordings_b.unsqueeze(1) == self.recordings
        return same_bk if unfilled_k is None else same_bk | unfilled_k

    def ages(self) -> Tensor:
        """How many keys came after each row's, int64 [K]; 0 for the newest."""
        return (self.pointer - 1 - torch.arange(self.size, device=self.keys.device)) % self.size

    @torch.no_grad()
    def enqueue(
        self, keys_nd: Tensor, recordings_n: Tensor | None = None, applied: Tensor | None = None
    ) -> None:
        """Write keys in order, oldest rows first; of more than K keys the last K stay.

        Args:
            keys_nd: [N, D], equal on every rank and in global sample order.
            recordings_n: int64 [N], given exactly where the queue remembers recordings.
            applied: float scalar on the device, 0 where nothing is to be written; None is 1.

        Raises:
            ValueError: another vector size, or recordings missing or unasked for.
        """
        if keys_nd.ndim != 2 or keys_nd.shape[1] != self.keys.shape[1]:
            raise ValueError(
                f"keys have shape {tuple(keys_nd.shape)}; the queue takes [N, {self.keys.shape[1]}]"
            )
        if (recordings_n is None) != (self.recordings is None):
            raise ValueError("recordings are given exactly where the queue was built with recordings=True")
        count = keys_nd.shape[0]
        dropped = max(count - self.size, 0)
        offsets_n = torch.arange(dropped, count, device=self.keys.device)
        rows_n = (self.pointer + offsets_n) % self.size
        written = count if applied is None else applied.to(torch.int64) * count
        _write(self.keys, rows_n, at_least_fp32(keys_nd[dropped:]).to(self.keys.dtype), applied)
        if recordings_n is not None and self.recordings is not None:
            _write(self.recordings, rows_n, recordings_n[dropped:], applied)
        self.pointer.copy_((self.pointer + written) % self.size)
        self.filled.copy_((self.filled + written).clamp(max=self.size))


def _write(memory: Tensor, rows_n: Tensor, values: Tensor, applied: Tensor | None) -> None:
    if applied is not None:
        values = torch.where(applied > 0, values, memory.index_select(0, rows_n))
    memory.index_copy_(0, rows_n, values)
