"""What is known of one clip: the ``<key>.json`` beside its video (docs/formats.md, "Shard set")."""

from __future__ import annotations

import builtins
import dataclasses
import json

from pal_ds.formats.shard_files import ShardSetError, dump_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleRecord:
    """The ``<key>.json`` member: what is known of one clip.

    Attributes:
        key: the sample's key.
        source: path relative to the SOURCE root, or id and span for rows of a CSV.
        start: where the clip starts in its source, in seconds.
        end: where it ends, in seconds.
        duration: length of the packed clip in seconds.
        fps: frames per second of the packed clip.
        frames: frames that a decoder really yields.
        width: pixels.
        height: pixels.
        bytes: size of the video member.
        sha256: of the video member.
        label: class name, only in sets made with labels.
    """

    key: str
    source: str
    start: float
    end: float
    duration: float
    fps: float
    frames: int
    width: int
    height: int
    bytes: int
    sha256: str
    label: str | None = None

    def to_json(self) -> builtins.bytes:
        """Return the member's bytes."""
        document = dataclasses.asdict(self)
        if self.label is None:
            del document["label"]
        return dump_json(document)

    @classmethod
    def from_json(cls, data: builtins.bytes) -> SampleRecord:
        """Parse a record; fields of later versions are passed over.

        Raises:
            ShardSetError: no JSON object, or a field is missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            document = json.loads(data)
            return cls(**{name: value for name, value in document.items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise ShardSetError(f"sample record: {error}") from error
