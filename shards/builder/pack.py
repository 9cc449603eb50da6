"""Writes a shard: a tar whose bytes depend on its clips alone, and its index (docs/formats.md, "Shard set")."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pal_ds.formats.shardset import SampleEntry, ShardEntry, ShardIndex, dump_json

from ..encoding.transcode import Clip


class _HashingFile:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.written = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.written += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.written


def write_shard(path: Path, name: str, clips: Sequence[Clip]) -> tuple[ShardEntry, ShardIndex]:
    """Pack clips into a tar at ``path``, in order.

    Args:
        path: scratch file to write.
        name: the shard's final name.
        clips: what goes in; one clip's bytes are in memory at a time.
    """
    samples: list[SampleEntry] = []
    with path.open("wb") as raw:
        file = _HashingFile(raw)
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            for clip in clips:
                offset = file.tell()
                _add(tar, f"{clip.record.key}.{clip.extension}", clip.path.read_bytes())
                _add(tar, f"{clip.record.key}.json", _record(clip))
                samples.append(
                    SampleEntry(
                        key=clip.record.key,
                        offset=offset,
                        size=file.tell() - offset,
                        frames=clip.record.frames,
                        fps=clip.record.fps,
                    )
                )
    known = [clip.copied for clip in clips if clip.copied is not None]
    entry = ShardEntry(
        name=name,
        clips=len(samples),
        bytes=file.written,
        sha256=file.sha256.hexdigest(),
        copied=sum(known) if known else None,
    )
    return entry, ShardIndex(shard=name, samples=tuple(samples))


def _record(clip: Clip) -> bytes:
    """Return a clip's ``<key>.json``; where the recipe left a choice it says what was done."""
    data = clip.record.to_json()
    return data if clip.copied is None else dump_json({**json.loads(data), "copied": clip.copied})


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    import io

    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(data))
