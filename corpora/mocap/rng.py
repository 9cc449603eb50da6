"""Random draws that depend on what they are for, never on who makes them or when.

Every generator is keyed by (seed, video id, purpose). So a corpus is the same whatever the number of workers,
and the background of a video can't know its action: the two come from different keys.
"""

from __future__ import annotations

import hashlib

import numpy as np

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=32).digest()


def generator(seed: int, *key: object) -> np.random.Generator:
    """Make the generator of one purpose.

    Args:
        seed: the corpus seed.
        *key: what the draw belongs to, e.g. a video id and ``"camera"``.

    Returns:
        A Philox generator; equal arguments give equal streams on every machine.
    """
    words = np.frombuffer(_digest(seed, *key), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words[:2], counter=[0, 0, int(words[2]), int(words[3])]))


def video_id(seed: int, *key: object) -> str:
    """Make an 11-character id in the style of YouTube's, but always safe as a file name and an option."""
    number = int.from_bytes(_digest(seed, "id", *key)[:16], "big")
    letters = []
    for _ in range(11):
        number, digit = divmod(number, len(_ID_ALPHABET))
        letters.append(_ID_ALPHABET[digit])
    return "".join(letters)
