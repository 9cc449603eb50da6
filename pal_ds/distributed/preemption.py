"""How a rank learns that it should stop: a signal, or a launcher that is no longer there.

A rank only sets a flag; all ranks agree on it at the next step (docs/design.md, "Failures and signals"), save,
and exit 75.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType


class PreemptionWatch:
    """Collects reasons to stop: SIGTERM, SIGINT, or a changed parent of the rank or of its launcher.

    The parent is compared with what it was at start, since in a container it may rightly be process 1. The
    launcher's own parent is watched only where both are DeepSpeed's: killing the ``deepspeed`` command leaves its
    launcher running, while a shell that ends under ``nohup`` is no reason to stop.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._parent = os.getppid()
        self._launcher_parent = _deepspeed_grandparent(self._parent)

    def install(self) -> None:
        """Take over SIGTERM and SIGINT; call it in the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    @property
    def reason(self) -> str | None:
        """Why this rank should stop; None while it should not."""
        if self._reason is None:
            if os.getppid() != self._parent:
                self._reason = "the launcher is gone"
            elif self._launcher_parent is not None and _parent_of(self._parent) != self._launcher_parent:
                self._reason = "the deepspeed command is gone"
        return self._reason

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._reason = f"received {signal.Signals(number).name}"


def _deepspeed_grandparent(parent: int) -> int | None:
    if "deepspeed.launcher.launch" not in _command_of(parent):
        return None
    grandparent = _parent_of(parent)
    if grandparent is None or "deepspeed" not in _command_of(grandparent):
        return None
    return grandparent


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _parent_of(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])
