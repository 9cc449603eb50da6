"""One input of a build as the catalog knows it."""

from __future__ import annotations

import dataclasses
import re

from pal_ds.formats.shard_files import is_safe_extension, sample_key

WHOLE, CUT, AUTO = "whole", "cut", "auto"
_TRANSIENT = re.compile(r"timed out|killed by signal|gone since the catalog|the store refuses")
#: Stages that the catalog finds out: the plan itself would have to change.
_OF_CATALOG = ("catalog", "duplicate", "label")
#: Begins the error of a video that could not be looked into to cut it: no plan has clips of it.
BEFORE_CUT = "before it was cut: "


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One input.

    Attributes:
        source: identity within the set: path relative to its SOURCE root, or id and span; the sample's key where
            it lies in a shard set, whose record then tells the source.
        root: index of its root among the build's roots.
        location: path relative to the root, or the shard's name where the root is a shard set.
        size: bytes of the source, None where unknown.
        start: seconds where the clip starts in its video, None for a whole file.
        end: seconds where it ends.
        span: ``whole`` (the file is the clip), ``cut`` (the span is cut out of the file), or ``auto`` (cut,
            unless the file turns out to be the clip already).
        label: class name, or None.
        group: the video it comes from; clips of one group always go to the same split.
        offset: first byte in the shard or tar, -1 for plain files.
        split: the split given by the source, or None.
        member: name of the video in the tar at ``location``, where it lies in one that is of no shard set; then
            ``offset`` and ``size`` are those of the video alone. None else.
    """

    source: str
    root: int
    location: str
    size: int | None = None
    start: float | None = None
    end: float | None = None
    span: str = WHOLE
    label: str | None = None
    group: str = ""
    offset: int = -1
    split: str | None = None
    member: str | None = None

    @property
    def of_set(self) -> bool:
        """Whether it is a sample of a shard set."""
        return self.offset >= 0 and self.member is None

    @property
    def extension(self) -> str:
        """The ending of its video in lower case, without the dot."""
        if self.member is None:
            return extension_of(self.location)
        extension = extension_of(self.member)
        return extension if is_safe_extension(extension) else "video"

    @property
    def key(self) -> str:
        """The sample's key; rows of a shard set keep theirs."""
        return self.source if self.of_set else sample_key(self.source)

    @property
    def seconds(self) -> float | None:
        """Length of the span, or None where the catalog does not know it."""
        return None if self.start is None or self.end is None else self.end - self.start


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """One input that is in no shard, as ``rejects.jsonl`` lists it."""

    source: str
    stage: str
    error: str

    @property
    def is_of_plan(self) -> bool:
        """Whether it was found before shards were planned, so that none of them has a place for it."""
        return self.stage in _OF_CATALOG or self.error.startswith(BEFORE_CUT)

    @property
    def is_transient(self) -> bool:
        """Whether it may be none when tried again: a timeout, a killed tool, a source out of reach."""
        return self.stage in ("transcode", "verify", "read", "probe", "missing") and bool(
            _TRANSIENT.search(self.error)
        )


def extension_of(name: str) -> str:
    """Return a file name's ending in lower case, without the dot."""
    return name.rpartition(".")[2].lower()


def stem_of(path: str) -> str:
    """Return a path's last component without its ending."""
    name = path.rpartition("/")[2]
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name
