"""Memory of what comes and goes is given back."""

from __future__ import annotations

import ctypes
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from pal_ds.data.workers import heap_trim


def _anonymous() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library can't trim its heap")
def test_freed_memory_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    piece, count = 64 << 10, 2048
    group = types.SimpleNamespace(group=range(heap_trim.CLIPS_PER_TRIM))

    def groups() -> Iterator[types.SimpleNamespace]:
        # Every 64th piece stays, so that the freed ones lie between pieces in use, as with frames of all sizes.
        pieces = [libc.malloc(piece) for _ in range(count)]
        for address in pieces:
            ctypes.memset(address, 1, piece)
        kept.extend(pieces[::64])
        for number, address in enumerate(pieces):
            if number % 64:
                libc.free(address)
        yield group

    kept: list[int] = []
    before = _anonymous()
    # Only the number of clips of a group is looked at, so this stands for a built one.
    assert list(heap_trim.trimmed(groups())) == [group]  # type: ignore[arg-type]
    after = _anonymous()
    for address in kept:
        libc.free(address)
    assert after - before < piece * count / 4
