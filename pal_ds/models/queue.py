"""The first-in first-out memory of keys (He et al., 2020), held by every rank alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pal_ds.models.numerics import at_least_fp32, unit


class KeyQueue(nn.Module):
    """Ring buffer of key vectors that serve as negatives.

    Starts as random unit rows, as in MoCo. The pointer lives on the device, so a write never waits for it.

    Args:
        size: K, any number at or above 1.
        dim: vector size D.
        mask_unfilled: rows without a key yet are left out of the negatives.

    Attributes:
        keys: fp32 [K, D].
        pointer: int64, the row the next key goes to.
        filled: int64, how many rows hold real keys.
    """

    keys: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int, *, mask_unfilled: bool = False) -> None:
        super().__init__()
        self.mask_unfilled = mask_unfilled
        self.register_buffer("keys", unit(torch.randn(size, dim)))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @property
    def size(self) -> int:
        """K, the number of rows."""
        return self.keys.shape[0]

    @property
    def fill(self) -> float:
        """Share of rows that hold real keys, 0 to 1; reads the device."""
        return float(self.filled.item()) / self.size

    def excluded(self) -> Tensor | None:
        """Rows to leave out of the negatives, bool [K], or None where every row counts."""
        if not self.mask_unfilled:
            return None
        return torch.arange(self.size, device=self.keys.device) >= self.filled

    def ages(self) -> Tensor:
        """How many keys came after each row's, int64 [K]; 0 for the newest."""
        return (self.pointer - 1 - torch.arange(self.size, device=self.keys.device)) % self.size

    @torch.no_grad()
    def enqueue(self, keys_nd: Tensor) -> None:
        """Write keys in order, oldest rows first; of more than K keys the last K stay.

        Args:
            keys_nd: [N, D], equal on every rank and in global sample order.

        Raises:
            ValueError: another vector size.
        """
        if keys_nd.ndim != 2 or keys_nd.shape[1] != self.keys.shape[1]:
            raise ValueError(
                f"keys have shape {tuple(keys_nd.shape)}; the queue takes [N, {self.keys.shape[1]}]"
            )
        count = keys_nd.shape[0]
        dropped = max(count - self.size, 0)
        offsets_n = torch.arange(dropped, count, device=self.keys.device)
        rows_n = (self.pointer + offsets_n) % self.size
        self.keys.index_copy_(0, rows_n, at_least_fp32(keys_nd[dropped:]).to(self.keys.dtype))
        self.pointer.copy_((self.pointer + count) % self.size)
        self.filled.copy_((self.filled + count).clamp(max=self.size))
