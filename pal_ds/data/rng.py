"""Counter-based random draws keyed by what they are for (docs/design.md, "Order of data").

Every draw of a run is a function of (seed, epoch, subject, purpose): nothing depends on how far a worker got,
so nothing has to be saved for an exact resume.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


class Draws:
    """A stream of random numbers for one subject and purpose.

    The numbers are the output of SHAKE-128 (FIPS 202) over the names and a counter. A run makes dozens of such
    streams for every clip: a hash is ready in microseconds, where a generator of numpy takes 20 times as long to
    set up, and its output will be the same on any machine and with any version of anything.

    Args:
        seed: the run's seed.
        epoch: number of the epoch.
        subject: what the draw is about: a clip's key, a lane, a group's ordered keys.
        purpose: what it decides.
    """

    def __init__(self, seed: int, epoch: int, subject: str, purpose: str) -> None:
        self._name = f"{seed}\n{epoch}\n{subject}\n{purpose}\n".encode()
        self._calls = 0

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """Return ``count`` numbers of U[0, 1), multiples of 2^-53."""
        return (self._raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def numbers(self, count: int) -> tuple[float, ...]:
        """Return the numbers of :meth:`uniform` as Python's: for a few, arrays cost several times as much."""
        return next(self.rows(1, count))

    def rows(self, rows: int, columns: int) -> Iterator[tuple[float, ...]]:
        """Draw ``rows * columns`` numbers of U[0, 1) at once, and read them a row at a time when asked for."""
        drawn = struct.iter_unpack(f"<{columns}Q", self._digest(rows * columns))
        return (tuple((number >> 11) * 2.0**-53 for number in row) for row in drawn)

    def integer(self, low: int, high: int) -> int:
        """Return an integer of U{low..high}, both ends included."""
        # The same double as uniform(1)[0]; arrays of one number cost ten times as much.
        number = (int.from_bytes(self._digest(1), "little") >> 11) * 2.0**-53
        return low + int(number * (high - low + 1))

    def permutation(self, count: int) -> npt.NDArray[np.int64]:
        """Return a random permutation of 0..count-1."""
        return np.argsort(self._raw(count), kind="stable").astype(np.int64)

    def _raw(self, count: int) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self._digest(count), dtype="<u8").astype(np.uint64, copy=False)

    def _digest(self, count: int) -> bytes:
        digest = hashlib.shake_128(self._name + str(self._calls).encode()).digest(8 * count)
        self._calls += 1
        return digest
