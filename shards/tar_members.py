"""Reads samples out of tar bytes with the standard library alone.

:func:`pal_ds.formats.tar_samples.split_samples` does it through webdataset, whose import loads torch: seconds and
hundreds of megabytes that a sharding node should not need.
"""

from __future__ import annotations

import io
import tarfile

from pal_ds.formats.shard_files import checked_key, is_safe_extension
from pal_ds.formats.shardset import SampleEntry, SampleRecord, ShardSetError
from pal_ds.formats.tar_samples import SampleMembers, sample_in


def read_sample(data: bytes, entry: SampleEntry | None = None) -> SampleMembers:
    """Return the one sample that lies in ``data``.

    Args:
        data: a range of a tar.
        entry: the sample's row in the index, where it may lie in an adopted tar.

    Raises:
        ShardSetError: the bytes are not exactly one video and its record, or their names are no plain ones.
    """
    if entry is not None and entry.video is not None:
        return sample_in(data, entry)
    found: dict[str, bytes] = {}
    keys: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member) if member.isfile() else None
                if file is None or extension in found:
                    raise ShardSetError(f"member {member.name!r} does not belong into a sample")
                keys.add(key)
                found[extension] = file.read()
    except tarfile.TarError as error:
        raise ShardSetError(f"not a whole sample: {error}") from error
    if len(keys) != 1 or len(found) != 2 or "json" not in found:
        raise ShardSetError(f"expected one video and one json, found {sorted(found)} of {len(keys)} keys")
    record = SampleRecord.from_json(found.pop("json"))
    extension, video = found.popitem()
    key = checked_key(keys.pop())
    if not is_safe_extension(extension):
        raise ShardSetError(f"sample {key}: its video's ending {extension[:80]!r} is none of a file")
    return SampleMembers(key=key, video=video, video_extension=extension, record=record)
