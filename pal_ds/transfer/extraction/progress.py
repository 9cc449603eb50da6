"""How far an extraction is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.progress import MofNCompleteColumn

from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.transfer.extraction.progress_display import ProgressDisplay
from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.extraction.video_source import VideoRef


class ExtractProgress(ProgressDisplay):
    """Progress of one rank by bytes of video.

    Args:
        videos: this rank's videos.
        finished: ids that will be passed over.
        visible: False shows nothing.
    """

    def __init__(self, videos: Sequence[VideoRef], finished: Collection[str], *, visible: bool) -> None:
        self._left = [video for video in videos if video.id not in finished]
        self._total = sum(video.bytes for video in self._left)
        self._bytes = self._videos = self._clips = self._failed = 0
        columns = (MofNCompleteColumn(), "videos {task.fields[note]}")
        super().__init__("extract", len(self._left), columns, visible=visible)

    def advance(self, video: VideoRef, result: Sidecar | VideoFailure | None) -> None:
        """Count one video; ``result`` is None for one that was finished before."""
        if result is None:
            return
        self._videos += 1
        self._bytes += video.bytes
        self._failed += isinstance(result, VideoFailure)
        self._clips += result.features if isinstance(result, Sidecar) else 0
        if not self.due(last=self._videos == len(self._left)):
            return
        rate = f"{self.per_second(self._clips):.0f} clips/s"
        share = 100 * self._bytes / max(1, self._total)
        self.show(
            self._videos,
            f"{rate}, {self._failed} failed" if self._failed else rate,
            f"extract: {self._videos}/{len(self._left)} videos ({share:.0f} % of the bytes), {rate}, "
            f"{self._failed} failed",
        )
