"""Local files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_COPY_BYTES = 8 << 20


def write_local(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with _publishing(path) as file:
        file.write(data)


def publish_local(source: Path, path: Path) -> None:
    """Copy a file atomically."""
    with _publishing(path) as file, source.open("rb") as origin:
        shutil.copyfileobj(origin, file, _COPY_BYTES)


@contextlib.contextmanager
def _publishing(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file beside ``path`` that becomes ``path`` only when the block ends well.

    ``tempfile`` would make it private to its owner; a shard or checkpoint should get the usual permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
