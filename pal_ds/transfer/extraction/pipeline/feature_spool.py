"""One video's array while it grows: in memory while it is small, in a temporary file where it isn't."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from torch import Tensor

from pal_ds import storage

DTYPES = {"float32": "<f4", "float16": "<f2"}
#: An array larger than this lies in a temporary file until it is whole.
MEMORY_BYTES = 16 << 20


class FeatureSpool:
    """An array [T, ...] that gets its rows in order.

    Args:
        count: T.
        dtype: ``float32`` or ``float16``, as written.
    """

    def __init__(self, count: int, dtype: str) -> None:
        self._count = count
        self._dtype = DTYPES[dtype]
        self._rows = 0
        self._row: tuple[int, ...] = ()
        self._memory = io.BytesIO()
        self._disk: IO[bytes] | None = None
        self._path = Path()
        self._stack = contextlib.ExitStack()

    def __len__(self) -> int:
        return self._rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array, [T, ...]; known when the first rows are there."""
        return (self._count, *self._row)

    @property
    def whole(self) -> bool:
        """Whether all rows are there."""
        return self._rows == self._count

    def add(self, rows: Tensor) -> None:
        """Append rows, [n, ...].

        Raises:
            ValueError: a value that isn't finite, or isn't in the dtype that is written.
            OSError: no room.
        """
        with np.errstate(over="ignore"):
            array = rows.numpy().astype(self._dtype, copy=False)
        if not np.isfinite(array).all():
            place = f"features {self._rows} to {self._rows + len(array) - 1}"
            if bool(rows.isfinite().all()):
                raise ValueError(f"{place} don't fit float16, which ends at 65504; use --dtype float32")
            raise ValueError(f"{place} are not finite")
        if not self._rows:
            self._row = array.shape[1:]
            header = {"descr": self._dtype, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(self._memory, header)
        (self._disk or self._memory).write(np.ascontiguousarray(array).tobytes())
        self._rows += len(array)
        if self._disk is None and self._memory.tell() > MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pal-features-"))
        self._path = Path(folder) / "features.npy"
        self._disk = self._stack.enter_context(self._path.open("wb"))
        self._disk.write(self._memory.getvalue())
        self._memory = io.BytesIO()

    def publish(self, url: str) -> None:
        """Write the whole array to a path or URL, atomically.

        Raises:
            StorageError: it can't be written.
        """
        assert self.whole, (self._rows, self._count)
        if self._disk is None:
            storage.write_bytes(url, self._memory.getvalue())
            return
        self._disk.flush()
        storage.upload_file(self._path, url)

    def close(self) -> None:
        """Throw the array away."""
        self._memory = io.BytesIO()
        self._stack.close()
