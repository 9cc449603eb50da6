"""How far an extraction is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.extraction.video_source import VideoRef

_LINE_SECONDS = 10.0


class ExtractProgress:
    """Progress of one rank by bytes of video, on stderr.

    Args:
        videos: this rank's videos.
        finished: ids that will be passed over.
        visible: False shows nothing.
    """

    def __init__(self, videos: Sequence[VideoRef], finished: Collection[str], *, visible: bool) -> None:
        self._visible = visible
        self._left = [video for video in videos if video.id not in finished]
        self._total = sum(video.bytes for video in self._left)
        self._bytes = 0
        self._videos = 0
        self._clips = 0
        self._failed = 0
        self._started = self._line = time.monotonic()
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if visible and console.is_terminal:
            self._bar = Progress(
                TextColumn("extract"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                MofNCompleteColumn(),
                TextColumn("videos {task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("extract", total=len(self._left), note="")

    def __enter__(self) -> ExtractProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, video: VideoRef, result: Sidecar | VideoFailure | None) -> None:
        """Count one video; ``result`` is None for one that was finished before."""
        if result is None:
            return
        self._videos += 1
        self._bytes += video.bytes
        self._failed += isinstance(result, VideoFailure)
        self._clips += result.features if isinstance(result, Sidecar) else 0
        now = time.monotonic()
        rate = f"{self._clips / max(now - self._started, 1e-9):.0f} clips/s"
        if self._bar:
            note = f"{rate}, {self._failed} failed" if self._failed else rate
            self._bar.update(self._task, completed=self._videos, note=note)
        elif self._visible and (now - self._line >= _LINE_SECONDS or self._videos == len(self._left)):
            self._line = now
            share = 100 * self._bytes / max(1, self._total)
            sys.stderr.write(
                f"extract: {self._videos}/{len(self._left)} videos ({share:.0f} % of the bytes), {rate}, "
                f"{self._failed} failed\n"
            )
