"""Names and JSON of a shard set's files (docs/formats.md, "Shard set")."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pal_ds import storage

MANIFEST_NAME = "manifest.json"
REJECTS_NAME = "rejects.jsonl"
REMOVALS_NAME = "removals.jsonl"
#: Lies there only while clips are being taken down.
INTENT_NAME = "_removal.json"
SHARD_NAME = re.compile(r"(?P<split>[A-Za-z0-9_]+)-(?P<number>\d{6})\.tar")
_HISTORY_NAME = re.compile(r"manifest-(\d{6})\.json")
#: Keys and endings come to be parts of file names: nothing in them may lead elsewhere.
_SAFE_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SAFE_EXTENSION = re.compile(r"[A-Za-z0-9]{1,8}")


class ShardSetError(ValueError):
    """A folder that is no shard set, or one whose files contradict each other."""


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


def history_name(generation: int) -> str:
    """Return the file name under which the manifest of an older generation is kept."""
    return f"manifest-{generation:06d}.json"


def history_generation(name: str) -> int | None:
    """Return the generation whose manifest a file name stands for; None for other names."""
    found = _HISTORY_NAME.fullmatch(name)
    return int(found[1]) if found else None


def rejects_name(generation: int) -> str:
    """Return the file name of the rejects as of a generation that changed them."""
    return REJECTS_NAME if generation == 1 else f"rejects-{generation:06d}.jsonl"


def tar_url(folder: str, shard: str, url: str | None) -> str:
    """Return where the tar of a shard lies.

    Args:
        folder: the shard set.
        shard: the shard's name.
        url: what manifest or index say of it: None for a tar of that name in the set, the name of another tar of
            the set, or the URL of a tar that was adopted.
    """
    if url is None or SHARD_NAME.fullmatch(url):
        return storage.join(folder, url or shard)
    return url


def parse_json(data: bytes, what: str, expected: str) -> dict[str, Any]:
    """Return the object of a JSON file whose ``format`` is the expected one.

    Raises:
        ShardSetError: no JSON, or another format or version.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise ShardSetError(f"{what}: not JSON: {error}") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != expected:
        raise ShardSetError(f"{what}: format is {found!r}, this version reads {expected!r}")
    assert isinstance(document, dict)
    return document


def checked_shard_name(name: Any) -> str:
    """Return a shard's name.

    Raises:
        ShardSetError: it is none.
    """
    if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
        raise ShardSetError(f"{name!r} is not a shard name (<split>-<6 digits>.tar)")
    return name


def checked_key(key: Any) -> str:
    """Return a sample's key.

    Raises:
        ShardSetError: it is no plain name.
    """
    if not isinstance(key, str) or not _SAFE_KEY.fullmatch(key):
        raise ShardSetError(f"sample key {_shortened(key)} is not a plain name")
    return key


def is_safe_extension(extension: str) -> bool:
    """Tell whether a file's ending, without the dot, is a few letters and digits."""
    return _SAFE_EXTENSION.fullmatch(extension) is not None


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def checked_tar_url(url: Any) -> str | None:
    """Return what manifest or index say of where a tar lies; None where they say nothing.

    Raises:
        ShardSetError: it is neither the name of a shard nor an address.
    """
    if url is not None and not (isinstance(url, str) and (SHARD_NAME.fullmatch(url) or "/" in url)):
        raise ShardSetError(f"url {url!r} is neither a shard of the set nor where an adopted tar lies")
    return url
