"""Counter-based random draws keyed by what they are for (DESIGN.md §4.2).

Every draw of a run is a function of (seed, epoch, subject, purpose): nothing depends on how far a worker got,
so nothing has to be saved for an exact resume.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


class Draws:
    """A stream of random numbers for one subject and purpose.

    Only the raw output of the Philox generator is used: numpy promises that it stays the same between
    versions, unlike the methods of ``Generator``.

    Args:
        seed: the run's seed.
        epoch: number of the epoch.
        subject: what the draw is about: a clip's key, a lane, a group's ordered keys.
        purpose: what it decides.
    """

    def __init__(self, seed: int, epoch: int, subject: str, purpose: str) -> None:
        name = f"{seed}\n{epoch}\n{subject}\n{purpose}".encode()
        key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
        self._bits = np.random.Philox(key=key)

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """Return ``count`` numbers of U[0, 1)."""
        raw = np.asarray(self._bits.random_raw(count), dtype=np.uint64)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """Return an integer of U{low..high}, both ends included."""
        return low + int(self.uniform(1)[0] * (high - low + 1))

    def between(self, low: float, high: float) -> float:
        """Return a number of U[low, high)."""
        return low + (high - low) * float(self.uniform(1)[0])

    def permutation(self, count: int) -> npt.NDArray[np.int64]:
        """Return a random permutation of 0..count-1."""
        raw = np.asarray(self._bits.random_raw(count), dtype=np.uint64)
        return np.argsort(raw, kind="stable").astype(np.int64)
