"""How far a localization is; it moves within a long video too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import nn
from torchcodec.decoders import VideoDecoder

from pal_ds import storage
from pal_ds.formats.video_file import HEAD_BYTES, is_container
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.progress_display import ProgressDisplay
from pal_ds.transfer.extraction.video_source import VideoRef


class LocalizeProgress(ProgressDisplay):
    """Progress of one rank: by bytes of finished videos, and by clips within the one under way.

    Args:
        videos: that will be worked on, in order.
        encoder: its forward passes are counted.
        sampling: of the videos.
        visible: False shows nothing.
    """

    def __init__(
        self, videos: Sequence[VideoRef], encoder: nn.Module, sampling: ExtractOptions, *, visible: bool
    ) -> None:
        super().__init__("localize", 1.0, ("{task.fields[note]}",), visible=visible)
        self._left = {video.id: video for video in videos}
        self._count, self._total = len(videos), max(1, sum(video.bytes for video in videos))
        self._sampling = sampling
        self._bytes = self._clips = self._here = self._failed = 0
        self._expected: dict[str, int] = {}
        self._hook = encoder.register_forward_hook(self._encoded) if visible and videos else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._hook is not None:
            self._hook.remove()

    def advance(self, video: VideoRef, *, failed: bool) -> None:
        """Count one video that is finished."""
        self._left.pop(video.id, None)
        self._bytes += video.bytes
        self._failed += failed
        self._here = 0
        self._tell(last=not self._left)

    def _encoded(self, module: nn.Module, given: Any, features: Any) -> None:
        del module, features
        self._clips += len(given[0])
        self._here += len(given[0])
        self._tell()

    def _tell(self, *, last: bool = False) -> None:
        if not self.due(last=last):
            return
        share = min((self._bytes + self._within()) / self._total, 1.0)
        note = f"{self._count - len(self._left)}/{self._count} videos, {self.per_second(self._clips):.0f} clips/s"
        note += f", {self._failed} failed" if self._failed else ""
        self.show(share, note, f"localize: {100 * share:.0f} %, {note}")

    def _within(self) -> float:
        """Bytes of the video under way that are done, by its clips."""
        video = next(iter(self._left.values()), None)
        if video is None:
            return 0.0
        if video.id not in self._expected:
            self._expected[video.id] = _clips_of(video, self._sampling)
        expected = self._expected[video.id]
        return video.bytes * min(1.0, self._here / expected) if expected else 0.0


def _clips_of(video: VideoRef, sampling: ExtractOptions) -> int:
    """Return about how many clips a local file has, by its header; 0 where that isn't known."""
    if video.offset is not None or not storage.is_local(video.url):
        return 0
    path = Path(storage.local_path(video.url)).absolute()
    try:
        with path.open("rb") as file:
            if not is_container(file.read(HEAD_BYTES)):
                return 0
        about = VideoDecoder(str(path), seek_mode="approximate").metadata
        rate = sampling.fps or float(about.average_fps_from_header or 0.0)
        return round(float(about.duration_seconds_from_header or 0.0) * rate / sampling.stride_of(rate))
    except (OSError, RuntimeError, ValueError, ZeroDivisionError):
        return 0
