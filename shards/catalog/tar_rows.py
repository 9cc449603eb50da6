"""Tars of other tools as SOURCE of a build: their samples as rows, without reading the videos."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from pal_ds import storage
from pal_ds.formats.recording import recording_of
from pal_ds.storage.range_file import RangeFile

from ..foreign_tars.finding import ForeignTar, find_tars
from ..foreign_tars.label_member import LabelMember
from ..foreign_tars.tar_listing import TarSample, list_tar
from ..foreign_tars.video_member import VideoMember
from .rows import Row

#: Tars whose headers are read at a time: mostly waiting.
_READERS = 16
#: Headers are read in blocks of this many bytes; small members between them come along.
_BLOCK_BYTES = 64 << 10
Input = tuple[Row, str | None, str | None]


def tar_rows(
    source: str, videos: VideoMember, labels: LabelMember | None, root_of: Callable[[str], int]
) -> Iterator[Input]:
    """Yield the samples of a SOURCE's tars, with stage and error where one is a reject.

    Args:
        source: a folder, prefix or name of tars.
        videos: how videos are named in them.
        labels: which member tells the class; None where clips carry none.
        root_of: returns the number of a root.

    Raises:
        UsageError: no tars there.
        StorageError: they can't be read.
    """
    tars = iter(find_tars([source]))
    with ThreadPoolExecutor(_READERS, "tars") as pool:
        while several := list(itertools.islice(tars, 2 * _READERS)):
            for tar, found in zip(
                several, pool.map(lambda tar: _rows_of(tar, videos, labels), several), strict=True
            ):
                root = root_of(tar.url.removesuffix(tar.relative).rstrip("/") or "/")
                for place, stage, error in found:
                    yield place(root), stage, error


def _rows_of(
    tar: ForeignTar, videos: VideoMember, labels: LabelMember | None
) -> list[tuple[Callable[[int], Row], str | None, str | None]]:
    with _opened(tar) as file:
        listing = list_tar(file, tar.size, videos)
        rows = [_row(tar, file, sample, labels) for sample in listing.samples]
    if listing.problem:
        rows.append((_placed(tar, tar.relative), "read", f"the tar {listing.problem}"))
    return rows


def _opened(tar: ForeignTar) -> IO[bytes]:
    if storage.is_local(tar.url):
        return storage.local_path(tar.url).open("rb")
    return io.BufferedReader(RangeFile(tar.url, 0, tar.size, block_bytes=_BLOCK_BYTES), buffer_size=512)


def _row(
    tar: ForeignTar, file: IO[bytes], sample: TarSample, labels: LabelMember | None
) -> tuple[Callable[[int], Row], str | None, str | None]:
    if len(sample.videos) != 1:
        names = (member.name.rpartition("/")[2] for member in (*sample.videos, *sample.others))
        listed = ", ".join(itertools.islice(names, 4))
        source = f"{tar.relative}/{sample.key}"
        if not sample.videos:
            return _placed(tar, source), "missing", f"no video in the sample (it has {listed})"
        error = f"several videos in the sample ({listed}): name one with --video-member"
        return _placed(tar, source), "catalog", error
    (video,) = sample.videos
    source = f"{tar.relative}/{video.name}"
    label = None if labels is None else labels.read(file, sample)
    placed = _placed(tar, source, size=video.size, offset=video.offset, member=video.name, label=label)
    if labels is not None and label is None:
        return placed, "label", f"no label in its sample ({labels})"
    return placed, None, None


def _placed(
    tar: ForeignTar,
    source: str,
    *,
    size: int | None = None,
    offset: int = 0,
    member: str = "",
    label: str | None = None,
) -> Callable[[int], Row]:
    """Return what makes the row, once the number of its root is known."""

    def row(root: int) -> Row:
        return Row(
            source=source,
            root=root,
            location=tar.relative,
            size=size,
            label=label,
            group=recording_of(source),
            offset=offset,
            member=member,
        )

    return row
