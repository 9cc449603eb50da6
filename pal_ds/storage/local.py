"""Local files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pal_ds.storage.errors import StorageAccessError, StorageError

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

    Raises:
        StorageAccessError: no right to write there.
        StorageError: a folder lies where the file is to be, or a file where a folder is needed.
    """
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with _telling(path):
            file = temporary.open("xb")
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _telling(path):
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Say what is wrong with a place as an error of storage; a full disk stays an :class:`OSError`."""
    try:
        yield
    except IsADirectoryError as error:
        raise StorageError(str(path), "is a folder: give the name of a file") from error
    except (NotADirectoryError, FileExistsError) as error:
        file = next((one for one in path.parents if one.is_file()), path.parent)
        raise StorageError(str(path), f"{file} is a file, no folder") from error
    except PermissionError as error:
        raise StorageAccessError(str(path), "no permission to write here") from error
