"""Threads that turn videos into clips ahead of the encoder."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pal_ds.ffmpeg import process
from pal_ds.transfer.extraction.ffmpeg_fallback import with_frames
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.pipeline.clip_channel import ByteChannel, ClosedError
from pal_ds.transfer.extraction.pipeline.clip_grid import ClipGrid, cut_clips
from pal_ds.transfer.extraction.pipeline.throughput import Throughput
from pal_ds.transfer.extraction.tally import VideoFailure, failure_of
from pal_ds.transfer.extraction.video_opening import Source
from pal_ds.transfer.extraction.video_source import VideoRef, open_video

#: Pixels that lie ready for the encoder beside two batches, in bytes.
READY_BYTES = 64 << 20


@dataclasses.dataclass(eq=False, kw_only=True)
class Reading:
    """One attempt to read a video; a film that the decoder misreads is begun anew by another.

    Attributes:
        video: which.
        grid: its clips.
        fps, frames, duration: as of the stream.
        unwanted: set by the encoder where a feature can't be used: the rest isn't decoded.
    """

    video: VideoRef
    grid: ClipGrid
    fps: float
    frames: int
    duration: float
    unwanted: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips of a reading, in order: uint8 [clip_frames, K, 3, size, size] each."""

    reading: Reading
    clips: list[Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """A reading came to its end; ``max_time_error`` is that of its stream, in seconds."""

    reading: Reading
    max_time_error: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failed:
    """A video can't be read, or what was read of it is worth nothing."""

    failure: VideoFailure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken:
    """The decoding thread itself failed: no fault of a video."""

    error: BaseException


Message = Clips | Ended | Failed | Broken


class DecodingThreads:
    """Threads that share the videos, each reading one at a time; iterate over what they make.

    Args:
        videos: dealt out in order.
        encoder: gives sizes.
        options: resolved.
        times: counts decoding.
    """

    def __init__(
        self, videos: Sequence[VideoRef], encoder: ClipEncoder, options: ExtractOptions, times: Throughput
    ) -> None:
        self._videos = iter(videos)
        self._encoder = encoder
        self._options = options
        self._times = times
        self._dealing = threading.Lock()
        count = min(options.workers, max(1, len(videos)))
        crops = 1 if encoder.crop == "centre" else 3
        clip_bytes = options.clip_frames * crops * 3 * encoder.size**2
        capacity = READY_BYTES + 2 * options.batch * clip_bytes
        self._channel: ByteChannel[Message] = ByteChannel(capacity, count)
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{number}", daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> DecodingThreads:
        process.allow_again()
        self._times.begin(len(self._threads))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._channel.close()
        if kind is not None:
            process.stop_all()  # the threads wait for their tools, and we for the threads
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[Message]:
        """Yield messages until all videos are through."""
        while True:
            with self._times.waiting():
                message = self._channel.get()
            if message is None:
                return
            yield message

    def _work(self) -> None:
        try:
            while (video := self._next()) is not None:
                self._read(video)
        except ClosedError:
            pass
        except BaseException as error:
            self._report(error)
        finally:
            self._channel.leave()

    def _report(self, error: BaseException) -> None:
        try:
            self._channel.put(Broken(error=error))
        except ClosedError:
            return

    def _next(self) -> VideoRef | None:
        with self._dealing:
            return next(self._videos, None)

    def _read(self, video: VideoRef) -> None:
        stage, begun = "open", time.perf_counter()

        def opened() -> Source:
            nonlocal begun
            begun = time.perf_counter()
            return open_video(video)

        def send(stream: FrameStream) -> None:
            nonlocal stage
            stage = "decode"
            self._times.decoded(time.perf_counter() - begun)
            self._send_clips(video, stream)

        try:
            with_frames(
                opened,
                send,
                name=video.source,
                fps=self._options.fps,
                threads=self._options.threads,
                # Twice the side that is needed: the encoder's own resizing then decides what the network sees.
                side=2 * self._options.short_side,
            )
        except (ClosedError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            self._channel.put(Failed(failure=failure_of(video, stage, error)))

    def _send_clips(self, video: VideoRef, stream: FrameStream) -> None:
        options = self._options
        stride = options.stride_of(stream.fps)
        reading = Reading(
            video=video,
            grid=ClipGrid.of(stream.frames, options.clip_frames, stride),
            fps=stream.fps,
            frames=stream.frames,
            duration=stream.duration,
        )
        chunks = cut_clips(stream, self._encoder, reading.grid)
        while not reading.unwanted:
            begun = time.perf_counter()
            clips = next(chunks, None)
            self._times.decoded(time.perf_counter() - begun)
            if clips is None:
                error = max(stream.max_time_error, reading.grid.most_shift / stream.fps)
                self._channel.put(Ended(reading=reading, max_time_error=error))
                return
            if clips:
                own = {clip.untyped_storage().data_ptr(): clip.untyped_storage().nbytes() for clip in clips}
                self._channel.put(Clips(reading=reading, clips=clips), sum(own.values()))
