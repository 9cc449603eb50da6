"""A reader that leaves early, as ``… | head`` does, ends a listing without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

#: What shells report of a command that SIGPIPE ended.
STATUS = 141


def listing(write: Callable[[], int]) -> int:
    """Return what ``write`` returns, or :data:`STATUS` where standard output was closed meanwhile.

    Args:
        write: prints to standard output and to no other pipe.
    """
    try:
        status = write()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS
    return status
