"""Lists the video files below a root: local folders with their traps, or a prefix of an object store."""

from __future__ import annotations

import collections
import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pal_ds import storage
from pal_ds.formats.video_file import is_video_name

from ..errors import UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """One video file.

    Attributes:
        relative: path below the root.
        size: bytes, None where it can't be told.
        error: why it can't be used, or None.
    """

    relative: str
    size: int | None
    error: str | None = None


@dataclasses.dataclass
class ListingNotes:
    """What a listing passed over: said to the user, as it is no input.

    Attributes:
        others: files that are no videos by their ending.
        endings: how often each of their endings was seen.
        loops: links that lead back to a folder they lie in.
    """

    others: int = 0
    loops: int = 0
    endings: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def pass_over(self, name: str) -> None:
        """Count a file that is no video by its ending."""
        self.others += 1
        stem, dot, ending = name.rpartition("/")[2].rpartition(".")
        self.endings[f".{ending.lower()}" if dot and stem else "no ending"] += 1

    def take_back(self, ending: str, files: int) -> None:
        """Forget files that are inputs after all."""
        self.others -= files
        self.endings[ending] -= files


def list_videos(root: str, notes: ListingNotes) -> Iterator[Listed]:
    """Yield the video files below ``root``, one folder's listing in memory at a time.

    Raises:
        UsageError: the root does not exist or is no folder.
        StorageAccessError: the store refuses.
    """
    if storage.is_local(root):
        path = storage.local_path(root)
        if not path.is_dir():
            raise UsageError(f"SOURCE {root}: no such folder")
        yield from _walk(path, "", (), notes)
        return
    found = False
    for info in storage.iter_files(root, retry=storage.AT_START):
        found = True
        if is_video_name(info.relative):
            yield Listed(info.relative, info.size)
        else:
            notes.pass_over(info.relative)
    if not found:
        raise UsageError(f"SOURCE {storage.redact(root)}: nothing lies there")


def _walk(
    folder: Path, relative: str, above: tuple[tuple[int, int], ...], notes: ListingNotes
) -> Iterator[Listed]:
    """Walk a local folder. Links to folders are followed (class folders often are links), loops are not."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            # Names alone: a folder may hold millions of files, and an entry takes ten times as much memory.
            names = sorted(os.fsencode(entry.name) for entry in entries)
    except OSError as error:
        # What lies in it can't be counted: it is listed as one input, so that the loss is seen.
        yield Listed(f"{relative or '.'}/", None, f"the folder can't be listed: {error.strerror}")
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        notes.loops += 1
        return
    for child in map(os.fsdecode, names):
        path, name = folder / child, f"{relative}/{child}" if relative else child
        if _is_folder(path):
            yield from _walk(path, name, (*above, identity), notes)
        elif is_video_name(child):
            yield _listed(path, name)
        else:
            notes.pass_over(child)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _listed(path: Path, name: str) -> Listed:
    try:
        status = path.stat()
    except OSError as error:
        return Listed(
            name, None, f"can't be read: {error.strerror}" + (" (a link)" if path.is_symlink() else "")
        )
    return Listed(name, status.st_size if stat.S_ISREG(status.st_mode) else 0)
