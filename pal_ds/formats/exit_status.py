"""Exit statuses of all commands, which scripts around them rely on (docs/formats.md, "Exit statuses")."""

from __future__ import annotations

DONE = 0
FAILED = 1
#: The settings or places are wrong; nothing was begun.
REFUSED = 2
#: A shard set is finished, and some inputs are not in it.
REJECTS = 3
#: Stopped by a signal with a checkpoint; the same command goes on.
PREEMPTED = 75
