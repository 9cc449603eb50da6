"""One clip's record without its video: read from the end of its sample."""

from __future__ import annotations

import tarfile

from pal_ds import storage
from pal_ds.formats.shardset import SampleEntry, SampleRecord, ShardSetError
from pal_ds.formats.tar_samples import split_samples

#: What is read of a sample's end: a record and its tar header are below 2 kB.
TAIL_BYTES = 4096


def read_record(tar_url: str, entry: SampleEntry) -> SampleRecord:
    """Read the record of a sample.

    A record lies behind its video, so a small range from the end holds it; where it does not, the sample is read.

    Raises:
        ShardSetError: there is no record, or it can't be understood.
        StorageError: the tar can't be read.
    """
    end = entry.offset + entry.size
    tail = storage.read_range(tar_url, max(entry.offset, end - TAIL_BYTES), end, retry=storage.AT_START)
    record = _record_in(tail, f"{entry.key}.json")
    if record is not None:
        return record
    (sample,) = split_samples(storage.read_range(tar_url, entry.offset, end, retry=storage.AT_START))
    return sample.record


def _record_in(tail: bytes, name: str) -> SampleRecord | None:
    """Find the record's member in the last bytes of a sample; members start at multiples of 512 from its end."""
    for start in range(len(tail) - 1024, -1, -512):
        if tail[start : start + len(name) + 1] != name.encode() + b"\0":
            continue
        try:
            header = tarfile.TarInfo.frombuf(tail[start : start + 512], "utf-8", "surrogateescape")
            return SampleRecord.from_json(tail[start + 512 : start + 512 + header.size])
        except (tarfile.TarError, ShardSetError):
            return None
    return None
