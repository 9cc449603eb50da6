"""What one rank did: videos written, passed over, failed."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoFailure:
    """One line of ``errors.jsonl``: a video without features, and why."""

    id: str
    source: str
    stage: str
    error: str


@dataclasses.dataclass
class Tally:
    """What one rank did: videos written, already there, failed; clips; warnings for people."""

    written: int = 0
    skipped: int = 0
    clips: int = 0
    failures: list[VideoFailure] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
