"""The shard-set format: the manifest, and how a set is read (docs/formats.md, "Shard set").

A shard set is a folder URL that holds ``<split>-<6 digits>.tar`` (plain POSIX tar in webdataset
convention), an index of byte offsets beside each tar, ``rejects.jsonl`` and, written last,
``manifest.json``. The read side and the write side share these types; all JSON is written
deterministically, so that equal content is equal bytes.

A set that has grown or shrunk has generations: ``manifest.json`` is the newest, ``manifest-<6 digits>.json`` are the
ones before.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from pal_ds import storage
from pal_ds.formats.sample_record import SampleRecord
from pal_ds.formats.shard_files import (
    MANIFEST_NAME,
    REJECTS_NAME,
    ShardSetError,
    checked_shard_name,
    checked_tar_url,
    dump_json,
    history_name,
    index_name,
    parse_json,
    rejects_name,
    sample_key,
    shard_name,
    tar_url,
)
from pal_ds.formats.shard_index import INDEX_FORMAT, SampleEntry, ShardIndex
from pal_ds.storage import ReadCounters, RetryPolicy

__all__ = [
    "FORMAT",
    "INDEX_FORMAT",
    "MANIFEST_NAME",
    "REJECTS_NAME",
    "Manifest",
    "SampleEntry",
    "SampleRecord",
    "ShardEntry",
    "ShardIndex",
    "ShardSetError",
    "SplitEntry",
    "dump_json",
    "index_name",
    "load_index",
    "load_manifest",
    "pin",
    "sample_key",
    "shard_name",
    "tar_url",
    "unpin",
]

FORMAT = "pal-shardset/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard as the manifest lists it: file name, number of clips, size in bytes, SHA-256 of the tar.

    ``copied`` counts the clips packed as their sources were; None, and left out, where the recipe leaves no choice.
    ``url`` says where the tar lies, if not under ``name`` in the set: the URL of an adopted tar, or the name of
    another tar of the set, some of whose clips were taken down. ``replaces`` is the shard of the generation before
    whose clips these are.
    """

    name: str
    clips: int
    bytes: int
    sha256: str
    copied: int | None = None
    url: str | None = None
    replaces: str | None = None

    @property
    def is_adopted(self) -> bool:
        """Whether the tar is not the set's own."""
        return self.url is not None and "/" in self.url


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
        rejected: the number of inputs listed in the rejects' file.
        generation: 1, and one more for each append and removal.
        previous: SHA-256 of the manifest of the generation before.
        appended: the recipes of what was appended.
        removed: clips that were taken down.
        rejects_generation: the generation that wrote the rejects' file.
    """

    recipe: dict[str, Any]
    splits: dict[str, SplitEntry]
    labels: tuple[str, ...] | None = None
    rejected: int = 0
    generation: int = 1
    previous: str | None = None
    appended: tuple[dict[str, Any], ...] = ()
    removed: int = 0
    rejects_generation: int = 1

    @property
    def rejects_file(self) -> str:
        """Name of the file that lists the rejects."""
        return rejects_name(self.rejects_generation)

    def shards(self) -> list[ShardEntry]:
        """Return all shards, split by split."""
        return [shard for name in sorted(self.splits) for shard in self.splits[name].shards]

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
        if self.generation > 1:
            document["generation"] = self.generation
            document["previous"] = self.previous
            document["appended"] = list(self.appended)
            document["removed"] = self.removed
            document["rejects_generation"] = self.rejects_generation
        return dump_json(document)

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Parse a manifest.

        Raises:
            ShardSetError: no JSON, another format or version, or missing fields.
        """
        document = parse_json(data, MANIFEST_NAME, FORMAT)
        try:
            labels = document.get("labels")
            return cls(
                recipe=dict(document["recipe"]),
                splits={name: _split_of(split) for name, split in document["splits"].items()},
                labels=None if labels is None else tuple(str(label) for label in labels),
                rejected=int(document.get("rejected", 0)),
                generation=int(document.get("generation", 1)),
                previous=document.get("previous"),
                appended=tuple(dict(recipe) for recipe in document.get("appended", ())),
                removed=int(document.get("removed", 0)),
                rejects_generation=int(document.get("rejects_generation", 1)),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ShardSetError(f"{MANIFEST_NAME}: missing or malformed field: {error}") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's bytes: the identity of the set in a run."""
        return hashlib.sha256(self.to_json()).hexdigest()


#: Generations that this process reads, by the set's URL: what was planned on is what is read, whoever appends.
_pinned: dict[str, str] = {}


def pin(url: str, digest: str) -> None:
    """Make this process read one generation of a set from now on, whatever is appended or removed meanwhile.

    Args:
        url: the set.
        digest: of the generation's manifest.
    """
    _pinned[url.rstrip("/")] = digest


def unpin(url: str) -> None:
    """Make this process read the newest generation of a set again."""
    _pinned.pop(url.rstrip("/"), None)


def load_manifest(url: str, *, digest: str | None = None, retry: RetryPolicy = storage.AT_START) -> Manifest:
    """Read the manifest of a shard set: the newest, or that of the generation asked for.

    Args:
        url: the set.
        digest: of the generation to read; None for the pinned one, else the newest.
        retry: how long failing reads are tried again.

    Raises:
        ShardSetError: there is none (the folder is unfinished or no shard set), or it can't be understood, or no
            generation has this digest.
        StorageAccessError: the store refuses.
        StorageError: the store fails beyond the retry budget.
    """
    wanted = digest or _pinned.get(url.rstrip("/"))
    try:
        manifest = Manifest.from_json(storage.read_bytes(storage.join(url, MANIFEST_NAME), retry=retry))
    except storage.StorageNotFoundError as error:
        raise ShardSetError(
            f"{storage.redact(url)}: no {MANIFEST_NAME}: not a shard set, or its build is unfinished "
            "(run pal-shard build again)"
        ) from error
    if wanted is None or wanted == manifest.digest:
        return manifest
    # A generation names the one before by its digest, so the chain is followed without listing.
    while manifest.generation > 1:
        following, name = manifest, history_name(manifest.generation - 1)
        try:
            manifest = Manifest.from_json(storage.read_bytes(storage.join(url, name), retry=retry))
        except storage.StorageNotFoundError as error:
            raise ShardSetError(f"{storage.redact(url)}: {name} is missing (pal-shard verify)") from error
        if manifest.digest != following.previous:
            raise ShardSetError(f"{storage.redact(url)}: {name} was changed (pal-shard verify)")
        if manifest.digest == wanted:
            return manifest
    raise ShardSetError(f"{storage.redact(url)}: no generation of this set has the manifest {wanted[:12]}…")


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


def _split_of(split: dict[str, Any]) -> SplitEntry:
    return SplitEntry(
        clips=int(split["clips"]),
        frames=int(split["frames"]),
        seconds=float(split["seconds"]),
        bytes=int(split["bytes"]),
        shards=tuple(
            ShardEntry(
                name=checked_shard_name(shard["name"]),
                clips=int(shard["clips"]),
                bytes=int(shard["bytes"]),
                sha256=str(shard["sha256"]),
                copied=shard.get("copied"),
                url=checked_tar_url(shard.get("url")),
                replaces=None if shard.get("replaces") is None else checked_shard_name(shard["replaces"]),
            )
            for shard in split["shards"]
        ),
    )


def load_index_rows(
    url: str, shard: str, *, retry: RetryPolicy = storage.DEFAULT_RETRY
) -> tuple[str, list[dict[str, Any]]]:
    """Read the URL of a shard's tar, and the samples of its index as plain dicts, for who looks through millions.

    Raises:
        ShardSetError: it can't be understood, or speaks of another shard.
        StorageError: it can't be read.
    """
    document = parse_json(
        storage.read_bytes(storage.join(url, index_name(shard)), retry=retry), "shard index", INDEX_FORMAT
    )
    if document.get("shard") != shard:
        raise ShardSetError(f"{index_name(shard)}: is the index of {document.get('shard')}")
    rows = document.get("samples")
    if not isinstance(rows, list):
        raise ShardSetError(f"{index_name(shard)}: missing or malformed field: samples")
    return tar_url(url, shard, document.get("url")), rows


def _split_document(split: SplitEntry) -> dict[str, Any]:
    document = dataclasses.asdict(split)
    for shard in document["shards"]:
        for field in ("copied", "url", "replaces"):
            if shard[field] is None:
                del shard[field]
    return document
