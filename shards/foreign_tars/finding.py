"""Finds the tars of a SOURCE, and brings one at a time to where its clips can be decoded."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from pal_ds import storage
from pal_ds.formats import shardset

from ..errors import UsageError
from .tar_listing import TarListing, list_tar
from .video_member import VideoMember

#: Tars fetched and listed ahead of the one whose clips are being decoded.
AHEAD = 2


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignTar:
    """A tar that another tool wrote.

    Attributes:
        url: where it lies; an absolute path on this machine.
        relative: its path below its SOURCE: what clips are known by.
        size: bytes.
    """

    url: str
    relative: str
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalTar:
    """A tar at hand.

    Attributes:
        path: the tar itself, or a copy in scratch.
        is_copy: whether it is one.
        size: bytes.
        sha256: of all of it.
        listing: its samples.
    """

    path: Path
    is_copy: bool
    size: int
    sha256: str
    listing: TarListing


def find_tars(sources: Sequence[str]) -> list[ForeignTar]:
    """Return the tars of all SOURCES, sorted by their relative paths.

    Args:
        sources: folders, URL prefixes or single tars; ``{0000..0099}`` and ``{a,b}`` are expanded.

    Raises:
        UsageError: a SOURCE holds none, is a shard set, carries credentials or has open braces; or two tars have one
            relative path.
        StorageAccessError: a store refuses.
    """
    from braceexpand import braceexpand

    found: dict[str, ForeignTar] = {}
    for source in sources:
        _refuse_credentials(source)
        before = len(found)
        try:
            urls = list(braceexpand(source))
        except ValueError as error:
            raise UsageError(
                f"SOURCE {storage.redact(source)}: its braces can't be expanded ({error}): write "
                "{0000..0099} or {a,b}, or \\{ for a brace in a name"
            ) from error
        for url in urls:
            for tar in _tars_of(url):
                if tar.relative in found and found[tar.relative].url != tar.url:
                    raise UsageError(
                        f"two tars are called {tar.relative!r}: {storage.redact(found[tar.relative].url)} and "
                        f"{storage.redact(tar.url)}: give their common parent as SOURCE"
                    )
                found[tar.relative] = tar
        if len(found) == before:
            raise UsageError(
                f"SOURCE {storage.redact(source)}: no .tar in it: give a folder, prefix or name of tars "
                "(compressed ones can't be read by range: unpack them with gunzip first)"
            )
    return [found[name] for name in sorted(found)]


def _tars_of(url: str) -> Iterator[ForeignTar]:
    if url.endswith(".tar"):
        try:
            size = storage.size(url, retry=storage.AT_START)
        except storage.StorageNotFoundError as error:
            raise UsageError(f"SOURCE {storage.redact(url)}: there is no such tar") from error
        yield ForeignTar(storage.absolute(url), url.rpartition("/")[2], size)
        return
    try:
        for file in storage.iter_files(url, retry=storage.AT_START):
            if file.relative == shardset.MANIFEST_NAME:
                raise UsageError(
                    f"SOURCE {storage.redact(url)}: is a shard set already: train on it, or use pal-shard reshard"
                )
            if file.relative.endswith(".tar"):
                yield ForeignTar(storage.absolute(file.url), file.relative, file.size)
    except storage.StorageNotFoundError as error:
        raise UsageError(f"SOURCE {storage.redact(url)}: nothing lies there") from error


def _refuse_credentials(url: str) -> None:
    if "://" not in url:
        return
    if "::" in url:
        raise UsageError(f"SOURCE {storage.redact(url)}: is a chain of places (::): give the place itself")
    parts = urlsplit(url)
    if parts.query or parts.fragment or ":" in parts.netloc.rpartition("@")[0]:
        raise UsageError(
            f"SOURCE {storage.redact(url)}: has credentials or a query in its URL, which the manifest would tell "
            "everyone: give them by the environment"
        )


class TarShelf:
    """Brings tars to hand in order, a few ahead of need.

    Args:
        tars: in the order in which they are taken.
        videos: how their videos are named.
        scratch: where copies of remote ones go.
    """

    def __init__(self, tars: Sequence[ForeignTar], videos: VideoMember, scratch: Path) -> None:
        self._waiting = list(tars)
        self._videos = videos
        self._scratch = scratch
        self._pool = ThreadPoolExecutor(AHEAD, "tars")
        self._coming: dict[str, Future[LocalTar]] = {}

    def take(self, tar: ForeignTar) -> LocalTar:
        """Wait for a tar.

        Raises:
            StorageNotFoundError: it is gone.
            StorageAccessError: the store refuses.
            StorageError: the store fails beyond its budget.
        """
        while self._waiting and len(self._coming) <= AHEAD:
            ahead = self._waiting.pop(0)
            self._coming[ahead.relative] = self._pool.submit(self._fetch, ahead)
        return self._coming.pop(tar.relative).result()

    def close(self) -> None:
        """Drop what is under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, tar: ForeignTar) -> LocalTar:
        local = storage.is_local(tar.url)
        name = hashlib.sha256(tar.relative.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        path = storage.local_path(tar.url) if local else self._scratch / f"tar-{name}"
        size = storage.size(tar.url)
        hasher = hashlib.sha256()
        with open(path, "rb" if local else "wb+") as file:  # noqa: PTH123  one of two modes
            for start in range(0, size, storage.PIECE_BYTES):
                end = min(size, start + storage.PIECE_BYTES)
                data = file.read(end - start) if local else storage.read_range(tar.url, start, end)
                if not local:
                    file.write(data)
                hasher.update(data)
            file.seek(0)
            listing = list_tar(file, size, self._videos)
        return LocalTar(path=path, is_copy=not local, size=size, sha256=hasher.hexdigest(), listing=listing)
