"""The index of a shard: where each sample lies in its tar (docs/formats.md, "Shard set")."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pal_ds.formats.sample_record import SampleRecord
from pal_ds.formats.shard_files import (
    ShardSetError,
    checked_key,
    checked_shard_name,
    checked_tar_url,
    is_safe_extension,
    parse_json,
    tar_url,
)

INDEX_FORMAT = "pal-shard-index/1"
_PLACE = ("key", "offset", "size", "frames", "fps")
#: Fields of a record that an index row of an adopted clip adds to those of its place.
_RECORD = tuple(field.name for field in dataclasses.fields(SampleRecord) if field.name not in _PLACE)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdoptedVideo:
    """The video of a clip in a tar that this project did not write: the index holds its record, not the tar.

    Attributes:
        member: name of the video member; data, never a path.
        offset: first byte of the video in the tar.
        record: what is known of the clip.
    """

    member: str
    offset: int
    record: SampleRecord

    @property
    def extension(self) -> str:
        """The member's ending in lower case; ``video`` where that is more than a few letters and digits."""
        extension = self.member.rpartition(".")[2].lower()
        return extension if is_safe_extension(extension) else "video"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SampleEntry:
    """Where one sample lies in its tar.

    Attributes:
        key: the sample's key.
        offset: first byte of the sample's first tar header.
        size: bytes of all its members, headers and padding included: one range request reads the sample. 0 where the
            clip was taken down; its place stays, so that the others keep theirs.
        frames: decodable frames of the clip.
        fps: frames per second of the clip.
        video: of a clip in an adopted tar; else None.
    """

    key: str
    offset: int
    size: int
    frames: int
    fps: float
    video: AdoptedVideo | None = None

    @property
    def is_removed(self) -> bool:
        """Whether the clip was taken down."""
        return self.size == 0

    def to_row(self) -> dict[str, Any]:
        """Return the row of the index file."""
        row: dict[str, Any] = {field: getattr(self, field) for field in _PLACE}
        if self.video is not None:
            row |= {"member": self.video.member, "video_offset": self.video.offset}
            row |= {field: getattr(self.video.record, field) for field in _RECORD}
            if row["label"] is None:
                del row["label"]
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> SampleEntry:
        """Parse a row; fields of later versions are passed over.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or malformed.
            ShardSetError: the key is no plain name.
        """
        key = checked_key(row["key"])
        video = None
        if "member" in row:
            known = {name: row[name] for name in ("key", "frames", "fps", *_RECORD) if name != "label"}
            video = AdoptedVideo(
                member=str(row["member"]),
                offset=int(row["video_offset"]),
                record=SampleRecord(**known, label=row.get("label")),
            )
        return cls(
            key=key,
            offset=int(row["offset"]),
            size=int(row["size"]),
            frames=int(row["frames"]),
            fps=float(row["fps"]),
            video=video,
        )


def taken_down(key: str) -> SampleEntry:
    """Return the row that stands where a clip was taken down."""
    return SampleEntry(key=key, offset=0, size=0, frames=0, fps=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of one shard in the order of the tar.

    Attributes:
        shard: the shard's name.
        samples: its samples.
        url: where the tar lies, if not under the shard's name in the set: the name of another tar of the set, or the
            URL of an adopted tar.
        tar_bytes: size of an adopted tar when it was adopted.
    """

    shard: str
    samples: tuple[SampleEntry, ...]
    url: str | None = None
    tar_bytes: int | None = None

    def tar(self, folder: str) -> str:
        """Return the URL of the tar, for the set at ``folder``."""
        return tar_url(folder, self.shard, self.url)

    def to_json(self) -> bytes:
        """Return the file's bytes: one sample a line, for people and for diffs."""
        rows = ",\n".join(json.dumps(sample.to_row(), ensure_ascii=True) for sample in self.samples)
        document: dict[str, Any] = {"format": INDEX_FORMAT, "shard": self.shard}
        if self.url is not None:
            document["url"] = self.url
        if self.tar_bytes is not None:
            document["tar_bytes"] = self.tar_bytes
        head = json.dumps(document)[:-1]
        return f'{head}, "samples": [\n{rows}\n]}}\n'.encode()

    @classmethod
    def from_json(cls, data: bytes) -> ShardIndex:
        """Parse an index.

        Raises:
            ShardSetError: no JSON, another format or version, or missing fields.
        """
        document = parse_json(data, "shard index", INDEX_FORMAT)
        try:
            tar_bytes = document.get("tar_bytes")
            return cls(
                shard=checked_shard_name(document["shard"]),
                samples=tuple(SampleEntry.from_row(row) for row in document["samples"]),
                url=checked_tar_url(document.get("url")),
                tar_bytes=None if tar_bytes is None else int(tar_bytes),
            )
        except (KeyError, TypeError) as error:
            raise ShardSetError(f"shard index: missing or malformed field: {error}") from error
