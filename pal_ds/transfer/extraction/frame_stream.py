"""The sampled frames of a video as a stream of bounded chunks, with their time axis.

Native sampling takes every frame by number. Constant sampling takes at time ``(k + 1/2) / fps`` the frame then
on screen, so it is right for variable frame rates too, and equals native sampling where ``fps`` is the
video's own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pal_ds.transfer.extraction.video_opening import MisreadError, Source, open_decoder, unreadable

#: Decoded frames held at a time, in bytes (a chunk is one frame where a frame is larger).
CHUNK_BYTES = 24 << 20
_MOST_FRAMES = 256
#: Frames for each that the header's rate promises, above which time stamps are looked at for repeats.
MOST_CROWDED = 1.2
#: Times fewer frames than the header's rate promises, above which the clock is taken for broken (it jumped ahead); a
#: recorded screen that stays still for minutes has fewer too.
_LEAST_CROWDED = 10_000


class FrameStream:
    """One opened video.

    Args:
        source: local path, encoded bytes or a seekable file.
        fps: frames per second to sample at; 0 takes every frame.
        threads: FFmpeg's decoding threads.

    Attributes:
        fps: sampled frames per second.
        frames: number of sampled frames.
        duration: seconds from the first frame's appearance to the last one's end.
        max_time_error: largest gap seen so far between a frame's time stamp and ``number / fps`` (native).
        pixel_aspect: width of a pixel divided by its height; not 1 in anamorphic video.

    Raises:
        FrameError: no video container.
        MisreadError: no video the decoder can read, no frames, no frame rate, or repeated time stamps; the methods
            raise it too, where only reading on shows that the frames are others.
    """

    def __init__(self, source: Source, *, fps: float = 0.0, threads: int = 1) -> None:
        self._decoder: Any = open_decoder(source, threads=threads)
        about = self._decoder.metadata
        self.pixel_aspect = float(about.pixel_aspect_ratio or 1.0)
        count = len(self._decoder)
        if count == 0:
            raise MisreadError("no frames")
        self._begin = float(about.begin_stream_seconds or 0.0)
        self.duration = float(about.end_stream_seconds or 0.0) - self._begin
        if self.duration <= 0 or not about.average_fps:
            raise MisreadError(f"no usable time stamps (duration {self.duration} s)")
        self._constant = fps > 0
        self.fps = float(fps) if fps > 0 else float(about.average_fps)
        self.frames = max(1, math.floor(self.duration * self.fps + 1e-6)) if fps > 0 else count
        self.max_time_error = 0.0
        self._chunk = min(_MOST_FRAMES, max(1, CHUNK_BYTES // (3 * about.width * about.height)))
        promised = about.average_fps_from_header
        if promised and count * _LEAST_CROWDED < promised * self.duration:
            raise MisreadError(f"its clock jumps: {count} frames in {self.duration:.0f} s")
        if self._constant and promised and count / self.duration > MOST_CROWDED * promised:
            self._check_neighbours(count)

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Decode sampled frames by number, ascending, repeats allowed.

        Returns:
            uint8 [N, 3, H, W], a view of NHWC memory.
        """
        if self._constant:
            last = self._begin + self.duration
            times = [
                min(self._begin + (number + 0.5) / self.fps, math.nextafter(last, 0)) for number in numbers
            ]
            return self._played_at(times)
        batch = self._decoded(numbers)
        new = [0, *(place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1])]
        self._stamps(batch.pts_seconds[new])
        planned = torch.tensor(numbers, dtype=torch.float64) / self.fps
        error = (batch.pts_seconds.double() - self._begin - planned).abs().max()
        self.max_time_error = max(self.max_time_error, float(error))
        return _tensor(batch.data)

    def _played_at(self, times: list[float]) -> Tensor:
        try:
            batch = self._decoder.get_frames_played_at(times)
        except (RuntimeError, IndexError) as failure:
            raise MisreadError(unreadable(failure)) from failure
        # A frame that begins after the time asked for shows that the index is off.
        if bool((batch.pts_seconds.double() > torch.tensor(times, dtype=torch.float64) + 1e-3).any()):
            raise MisreadError("its frames are not where its time stamps say")
        return _tensor(batch.data)

    def _decoded(self, numbers: Sequence[int]) -> Any:
        try:
            if numbers[-1] - numbers[0] == len(numbers) - 1:
                return self._decoder.get_frames_in_range(numbers[0], numbers[-1] + 1)
            return self._decoder.get_frames_at(list(numbers))
        except (RuntimeError, IndexError) as failure:
            raise MisreadError(unreadable(failure)) from failure

    def _check_neighbours(self, count: int) -> None:
        """Look at the time stamps of some neighbouring frames, each sought anew: frames in a row hide repeats."""
        for place in range(0, count - 1, max(1, (count - 1) // 8)):
            away = count - 1 if place < count // 2 else 0
            asked = (away, place, away, place + 1)
            self._stamps(torch.cat([self._decoded([number]).pts_seconds for number in asked])[1::2])

    def _stamps(self, seconds_n: Tensor) -> None:
        """Refuse frames that share a time stamp: their order is lost (streams put behind each other)."""
        if len(seconds_n) > 1 and bool((seconds_n.diff() <= 0).any()):
            raise MisreadError("several frames have the same time stamp, so their order can't be told")

    def chunks(self, numbers: Iterable[int]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield ``numbers`` in order with their frames, at most ``CHUNK_BYTES`` of them at a time."""
        remaining = iter(numbers)
        while chunk := list(itertools.islice(remaining, self._chunk)):
            yield chunk, self.read([min(number, self.frames - 1) for number in chunk])


def _tensor(data: Any) -> Tensor:
    assert isinstance(data, Tensor)
    return data
