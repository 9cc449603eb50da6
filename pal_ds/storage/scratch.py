"""A scratch folder of one process, and the removal of those whose processes were killed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"


@contextlib.contextmanager
def scratch_folder(parent: str | None = None, *, prefix: str = "pal-shard-") -> Iterator[Path]:
    """Make a folder below ``parent`` (default TMPDIR) that is gone at the end.

    A killed process can't remove its own; its lock is released by the kernel, so that the next one finds the
    folder and removes it.

    Args:
        parent: where to make it.
        prefix: begins its name; only folders with the same one are taken for left-overs.
    """
    base = Path(parent or tempfile.gettempdir())
    base.mkdir(parents=True, exist_ok=True)
    for stale in base.glob(prefix + "*"):
        _remove_if_stale(stale)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    with (folder / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_stale(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
