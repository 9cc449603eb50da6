"""How the sharder fails, and which exit status each kind of failure has (docs/formats.md, "Exit statuses")."""

from __future__ import annotations


class UsageError(ValueError):
    """The command can't be run as given: one line with the fix, exit status 2."""


class BuildError(RuntimeError):
    """The work can't go on or did not end well: exit status 1."""


class Rejected(Exception):  # noqa: N818  an outcome of one input, not a failure of the program
    """One input can't become a clip; it is listed in ``rejects.jsonl`` and the build goes on.

    Attributes:
        stage: where it was found out: ``catalog``, ``missing``, ``duplicate``, ``label``, ``read``, ``probe``,
            ``transcode``, ``verify`` or ``filter``.
        error: one line for people, free of paths, addresses and times, so that it is the same on every run.
    """

    def __init__(self, stage: str, error: str) -> None:
        self.stage = stage
        self.error = error
        super().__init__(f"{stage}: {error}")
