"""How a run that can't go on says so."""

from __future__ import annotations


class RunFailedError(Exception):
    """The run can't go on; the message says why, and the last state is saved where that was possible."""
