"""What can be wrong with a clip."""

from __future__ import annotations


class ClipError(Exception):
    """One clip can't be used; it is replaced, counted and logged (docs/design.md, "Order of data").

    Args:
        key: the clip's key, or its place where the key is unknown.
        reason: one line.
    """

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"{key}: {reason}")

    def __reduce__(self) -> tuple[type[ClipError], tuple[str, str]]:
        return type(self), (self.key, self.reason)


class ClipCorruptError(ClipError):
    """The bytes in the shard are not those that the set's index and record describe."""


class ClipRemovedError(ClipError):
    """The clip was taken down since the generation of the set that the run reads."""


class ClipDecodeError(ClipError):
    """The decoder fails, or yields other frames than the record says."""


class DecoderUnavailableError(Exception):
    """No clip can be decoded on the device that was asked for: the fault is not the clip's."""


class TooManyBadClipsError(Exception):
    """More clips had to be replaced than the configuration allows: the run should stop."""


class WorkerLostError(Exception):
    """Workers died more often than the configuration allows."""
