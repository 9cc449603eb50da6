"""What one rank did: videos written, passed over, failed."""

from __future__ import annotations

import dataclasses

from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.transfer.extraction.pipeline.throughput import RankFigures
from pal_ds.transfer.extraction.video_source import VideoRef


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoFailure:
    """One line of ``errors.jsonl``: a video without features, and why."""

    id: str
    source: str
    stage: str
    error: str

    @property
    def told(self) -> str:
        """What people read; bytes of a name in no encoding are escaped, so that any output takes them."""
        return f"{self.source}: {self.error}".encode("utf-8", "backslashreplace").decode()


@dataclasses.dataclass
class Tally:
    """What one rank did: videos written, already there, failed; clips; warnings for people; where the time went."""

    written: int = 0
    skipped: int = 0
    clips: int = 0
    failures: list[VideoFailure] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    figures: RankFigures | None = None

    def add(self, result: Sidecar | VideoFailure) -> None:
        """Count a video by its sidecar or its failure."""
        if isinstance(result, VideoFailure):
            self.failures.append(result)
            return
        self.written += 1
        self.clips += result.features
        if result.max_time_error > max(result.clip_frames, 2) / result.fps / 2:
            self.warnings.append(
                f"{result.source}: its frame rate varies; native time stamps are off by up to "
                f"{result.max_time_error:.2f} s. Use --fps F for exact times"
            )


def failure_of(video: VideoRef, stage: str, error: Exception) -> VideoFailure:
    """Return what an error on the way means for a video, in one line."""
    text = " ".join(str(error).split())[:500]
    return VideoFailure(
        id=video.id, source=video.source, stage=stage, error=f"{type(error).__name__}: {text}"
    )
