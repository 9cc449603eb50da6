"""Which recording a clip was cut from: told by its source, without opening a video."""

from __future__ import annotations

import hashlib


def recording_of(source: str) -> str:
    """Return the recording of a sample's ``source``: equal for clips cut from one video.

    A row of a clip list (``path#t=4,8``) names its file, Kinetics' ``<id>_<start>_<end>`` its id; any other source
    is a recording of its own.
    """
    source = source.partition("#t=")[0]
    name = source.rpartition("/")[2]
    stem, dot, _ = name.rpartition(".")
    parts = (stem if dot and stem else name).rsplit("_", 2)
    if len(parts) == 3 and all(len(part) == 6 and part.isdigit() for part in parts[1:]):
        return parts[0]
    return source


def recording_number(source: str) -> int:
    """Return a number from 0 to 2**63 - 1 that stands for the recording of ``source``, the same everywhere."""
    digest = hashlib.blake2b(recording_of(source).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
