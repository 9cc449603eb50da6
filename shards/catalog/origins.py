"""Where sources lie, and how one of them becomes a local file for ffmpeg."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import SampleRecord, ShardIndex, ShardSetError

from ..errors import BuildError, Rejected
from ..tar_members import read_sample
from .films import Films
from .rows import CUT, Row

_ENOSPC = 28
#: Indexes of shard sets kept in memory.
_INDEXES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """A source at hand.

    Attributes:
        path: local file.
        record: its record, where it comes out of a shard set.
        extension: its ending, where it comes out of a shard set.
    """

    path: Path
    record: SampleRecord | None = None
    extension: str | None = None


@dataclasses.dataclass(frozen=True)
class Origins:
    """The roots of a build, by number.

    ``films`` keeps remote videos of which several clips are cut; None fetches them for every clip.
    """

    roots: Sequence[str]
    retry: storage.RetryPolicy = dataclasses.field(default_factory=storage.RetryPolicy)
    films: Films | None = None

    @property
    def remote(self) -> bool:
        """Whether any root is not on this machine."""
        return not all(storage.is_local(root) for root in self.roots)

    @contextlib.contextmanager
    def open(self, row: Row, scratch: Path) -> Iterator[Fetched]:
        """Make a row's source a local file for as long as the block lasts.

        Raises:
            Rejected: the source is gone, not a plain file, or can't be read.
            BuildError: no space is left in ``scratch``.
            StorageError: the store fails beyond the retry budget.
        """
        root = self.roots[row.root]
        if row.offset < 0 and storage.is_local(root):
            path = storage.local_path(root) / row.location
            _check_readable(path)
            yield Fetched(path=path)
            return
        try:
            with self._fetched(row, scratch) as fetched:
                yield fetched
        except OSError as error:
            if error.errno == _ENOSPC:
                raise BuildError(
                    "no space left in the scratch folder: set TMPDIR to a larger disk"
                ) from error
            raise

    @contextlib.contextmanager
    def _fetched(self, row: Row, scratch: Path) -> Iterator[Fetched]:
        if self.films is not None and row.offset < 0 and row.span == CUT:

            def fetch(path: Path) -> None:
                with path.open("wb") as file:
                    self._download(row, path, file)

            with self.films.open(f"{row.root} {row.location}", fetch) as path:
                yield Fetched(path=path)
            return
        handle, name = tempfile.mkstemp(prefix="source-", dir=scratch)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                fetched = self._sample(row, path, file) if row.of_set else self._download(row, path, file)
            yield fetched
        finally:
            path.unlink(missing_ok=True)

    def _download(self, row: Row, path: Path, file: object) -> Fetched:
        url = storage.join(self.roots[row.root], row.location)
        try:
            size = row.size if row.size is not None else storage.size(url, retry=self.retry)
            if size == 0:
                raise Rejected("probe", "empty file")
            first = max(0, row.offset)
            for start in range(first, first + size, storage.PIECE_BYTES):
                end = min(first + size, start + storage.PIECE_BYTES)
                file.write(storage.read_range(url, start, end, retry=self.retry))  # type: ignore[attr-defined]
        except storage.StorageNotFoundError as error:
            raise Rejected("missing", "gone since the catalog was made") from error
        except storage.StorageAccessError as error:
            raise Rejected("read", "the store refuses to give it") from error
        return Fetched(path=path)

    def _index(self, root: int, shard: str) -> ShardIndex:
        return _load_index(self.roots[root], shard, self.retry)

    def _sample(self, row: Row, path: Path, file: object) -> Fetched:
        assert row.size is not None
        try:
            index = self._index(row.root, row.location)
            entry = next((sample for sample in index.samples if sample.key == row.source), None)
            if entry is None:
                raise Rejected("missing", "gone since the catalog was made")
            url = index.tar(self.roots[row.root])
            data = storage.read_range(url, entry.offset, entry.offset + entry.size, retry=self.retry)
            sample = read_sample(data, entry)
        except (ShardSetError, storage.StorageNotFoundError) as error:
            raise Rejected("read", "its sample in the shard set is damaged or gone") from error
        file.write(sample.video)  # type: ignore[attr-defined]
        return Fetched(path=path, record=sample.record, extension=sample.video_extension)


@functools.lru_cache(maxsize=_INDEXES)
def _load_index(root: str, shard: str, retry: storage.RetryPolicy) -> ShardIndex:
    return shardset.load_index(root, shard, retry=retry)


def _check_readable(path: Path) -> None:
    """Refuse what ffmpeg should not even open: pipes and devices would hang it."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise Rejected("missing", "gone since the catalog was made, or a dangling link") from error
    except OSError as error:
        raise Rejected("read", f"can't be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise Rejected("probe", "not a regular file")
    if status.st_size == 0:
        raise Rejected("probe", "empty file")
    if not os.access(path, os.R_OK):
        raise Rejected("read", "can't be read: Permission denied")
