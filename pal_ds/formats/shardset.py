"""The shard-set format: manifest, shard index and sample records (docs/formats.md, "Shard set").

A shard set is a folder URL that holds ``<split>-<6 digits>.tar`` (plain POSIX tar in webdataset
convention), an index of byte offsets beside each tar, ``rejects.jsonl`` and, written last,
``manifest.json``. The read side and the write side share the types below; all JSON is written
deterministically, so that equal content is equal bytes.
"""

from __future__ import annotations

import builtins
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pal_ds import storage
from pal_ds.storage import ReadCounters, RetryPolicy

FORMAT = "pal-shardset/1"
INDEX_FORMAT = "pal-shard-index/1"
MANIFEST_NAME = "manifest.json"
REJECTS_NAME = "rejects.jsonl"
_SHARD_NAME = re.compile(r"(?P<split>[A-Za-z0-9_]+)-(?P<number>\d{6})\.tar")


class ShardSetError(ValueError):
    """A folder that is no shard set, or one whose files contradict each other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard as the manifest lists it: file name, number of clips, size in bytes, SHA-256 of the tar.

    ``copied`` counts the clips packed as their sources were; None, and left out, where the recipe leaves no choice.
    """

    name: str
    clips: int
    bytes: int
    sha256: str
    copied: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitEntry:
    """One split: totals over its shards (clips, frames, seconds of video, bytes of tars) and the shards."""

    clips: int
    frames: int
    seconds: float
    bytes: int
    shards: tuple[ShardEntry, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of a finished shard set.

    Attributes:
        recipe: everything needed to make the same set again.
        splits: the splits by name.
        labels: sorted class names, or None where the set has no labels.
        rejected: the number of inputs listed in ``rejects.jsonl``.
    """

    recipe: dict[str, Any]
    splits: dict[str, SplitEntry]
    labels: tuple[str, ...] | None = None
    rejected: int = 0

    def to_json(self) -> bytes:
        """Return the file's bytes; equal manifests give equal bytes."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "recipe": self.recipe,
            "splits": {name: _split_document(self.splits[name]) for name in sorted(self.splits)},
            "rejected": self.rejected,
        }
        if self.labels is not None:
            document["labels"] = list(self.labels)
        return dump_json(document)

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Parse a manifest.

        Raises:
            ShardSetError: no JSON, another format or version, or missing fields.
        """
        document = _parse(data, MANIFEST_NAME, FORMAT)
        try:
            splits = {
                name: SplitEntry(
                    clips=int(split["clips"]),
                    frames=int(split["frames"]),
                    seconds=float(split["seconds"]),
                    bytes=int(split["bytes"]),
                    shards=tuple(
                        ShardEntry(
                            name=_checked_shard_name(shard["name"]),
                            clips=int(shard["clips"]),
                            bytes=int(shard["bytes"]),
                            sha256=str(shard["sha256"]),
                            copied=shard.get("copied"),
                        )
                        for shard in split["shards"]
                    ),
                )
                for name, split in document["splits"].items()
            }
            labels = document.get("labels")
            return cls(
                recipe=dict(document["recipe"]),
                splits=splits,
                labels=None if labels is None else tuple(str(label) for label in labels),
                rejected=int(document.get("rejected", 0)),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ShardSetError(f"{MANIFEST_NAME}: missing or malformed field: {error}") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's bytes: the identity of the set in a run."""
        return hashlib.sha256(self.to_json()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SampleEntry:
    """Where one sample lies in its tar.

    Attributes:
        key: the sample's key.
        offset: first byte of the sample's first tar header.
        size: bytes of all its members, headers and padding included: one range request reads the sample.
        frames: decodable frames of the clip.
        fps: frames per second of the clip.
    """

    key: str
    offset: int
    size: int
    frames: int
    fps: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of one shard in the order of the tar."""

    shard: str
    samples: tuple[SampleEntry, ...]

    def to_json(self) -> bytes:
        """Return the file's bytes: one sample a line, for people and for diffs."""
        rows = ",\n".join(
            json.dumps({field: getattr(sample, field) for field in SampleEntry.__slots__}, ensure_ascii=True)
            for sample in self.samples
        )
        head = json.dumps({"format": INDEX_FORMAT, "shard": self.shard})[:-1]
        return f'{head}, "samples": [\n{rows}\n]}}\n'.encode()

    @classmethod
    def from_json(cls, data: bytes) -> ShardIndex:
        """Parse an index.

        Raises:
            ShardSetError: no JSON, another format or version, or missing fields.
        """
        document = _parse(data, "shard index", INDEX_FORMAT)
        try:
            samples = tuple(
                SampleEntry(
                    key=str(row["key"]),
                    offset=int(row["offset"]),
                    size=int(row["size"]),
                    frames=int(row["frames"]),
                    fps=float(row["fps"]),
                )
                for row in document["samples"]
            )
            return cls(shard=_checked_shard_name(document["shard"]), samples=samples)
        except (KeyError, TypeError) as error:
            raise ShardSetError(f"shard index: missing or malformed field: {error}") from error


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


def dump_json(document: Mapping[str, Any]) -> bytes:
    """Return the one way this project writes a JSON file: ASCII, indented, keys in the order given."""
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


def shard_name(split: str, number: int) -> str:
    """Return the file name of shard ``number`` of ``split``."""
    return f"{split}-{number:06d}.tar"


def index_name(shard: str) -> str:
    """Return the file name of the index beside the tar named ``shard``."""
    return shard.removesuffix(".tar") + ".index.json"


def sample_key(identity: str) -> str:
    """Return the key of a source's identity: stable, unique in a set, safe as a file name, without dots."""
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def load_manifest(url: str, *, retry: RetryPolicy = storage.AT_START) -> Manifest:
    """Read the manifest of a shard set.

    Raises:
        ShardSetError: there is none (the folder is unfinished or no shard set), or it can't be understood.
        StorageAccessError: the store refuses.
        StorageError: the store fails beyond the retry budget.
    """
    try:
        data = storage.read_bytes(storage.join(url, MANIFEST_NAME), retry=retry)
    except storage.StorageNotFoundError as error:
        raise ShardSetError(
            f"{storage.redact(url)}: no {MANIFEST_NAME}: not a shard set, or its build is unfinished "
            "(run pal-shard build again)"
        ) from error
    return Manifest.from_json(data)


def load_index(
    url: str, shard: str, *, retry: RetryPolicy = storage.DEFAULT_RETRY, counters: ReadCounters | None = None
) -> ShardIndex:
    """Read the index of one shard of the set at ``url``.

    Raises:
        ShardSetError: it can't be understood, or speaks of another shard.
        StorageError: it can't be read.
    """
    index = ShardIndex.from_json(
        storage.read_bytes(storage.join(url, index_name(shard)), retry=retry, counters=counters)
    )
    if index.shard != shard:
        raise ShardSetError(f"{index_name(shard)}: is the index of {index.shard}")
    return index


def load_index_rows(
    url: str, shard: str, *, retry: RetryPolicy = storage.DEFAULT_RETRY
) -> list[dict[str, Any]]:
    """Read the samples of one shard's index as plain dicts, for who looks through millions of them.

    Raises:
        ShardSetError: it can't be understood, or speaks of another shard.
        StorageError: it can't be read.
    """
    document = _parse(
        storage.read_bytes(storage.join(url, index_name(shard)), retry=retry), "shard index", INDEX_FORMAT
    )
    if document.get("shard") != shard:
        raise ShardSetError(f"{index_name(shard)}: is the index of {document.get('shard')}")
    rows = document.get("samples")
    if not isinstance(rows, list):
        raise ShardSetError(f"{index_name(shard)}: missing or malformed field: samples")
    return rows


def _split_document(split: SplitEntry) -> dict[str, Any]:
    document = dataclasses.asdict(split)
    for shard in document["shards"]:
        if shard["copied"] is None:
            del shard["copied"]
    return document


def _parse(data: bytes, what: str, expected: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise ShardSetError(f"{what}: not JSON: {error}") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != expected:
        raise ShardSetError(f"{what}: format is {found!r}, this version reads {expected!r}")
    assert isinstance(document, dict)
    return document


def _checked_shard_name(name: Any) -> str:
    if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
        raise ShardSetError(f"{name!r} is not a shard name (<split>-<6 digits>.tar)")
    return name
