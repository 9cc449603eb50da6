"""Clips of many videos through the encoder in whole batches, and back to their videos."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder, EncodedBatch
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.pipeline.decoding import Broken, Clips, Ended, Failed, Message, Reading
from pal_ds.transfer.extraction.pipeline.feature_spool import FeatureSpool
from pal_ds.transfer.extraction.pipeline.throughput import Throughput
from pal_ds.transfer.extraction.tally import VideoFailure, failure_of


@dataclasses.dataclass(eq=False)
class Collected:
    """The features of one reading while they come in.

    Attributes:
        reading: whose clips they are.
        spools: an array for each readout.
        max_time_error: seconds; None until all clips are decoded.
        dropped: what comes in is thrown away.
    """

    reading: Reading
    spools: list[FeatureSpool]
    max_time_error: float | None = None
    dropped: bool = False

    @property
    def complete(self) -> bool:
        """Whether all features are there."""
        return self.max_time_error is not None and all(spool.whole for spool in self.spools)

    def add(self, features: Iterable[Tensor]) -> None:
        """Append the features of some clips, a tensor for each readout.

        Raises:
            ValueError: they can't be used.
            OSError: no room.
        """
        for spool, rows in zip(self.spools, features, strict=True):
            spool.add(rows)

    def drop(self) -> None:
        """Throw away what is there and what comes."""
        self.dropped = True
        for spool in self.spools:
            spool.close()


class BatchEncoder:
    """Puts clips of whatever videos into batches of one size, in the order in which they come.

    The last batch is filled up with repeats: every forward pass has one shape, so that a feature doesn't depend on
    what else is extracted. On an accelerator one batch is under way while the next is put together.

    Args:
        encoder: the frozen backbone.
        options: resolved.
        times: counts encoding.
    """

    def __init__(self, encoder: ClipEncoder, options: ExtractOptions, times: Throughput) -> None:
        self._encoder = encoder
        self._options = options
        self._times = times
        self._on_cpu = encoder.device.type == "cpu"
        self._waiting: list[tuple[Collected, Tensor]] = []
        self._under_way: deque[tuple[EncodedBatch, list[Collected]]] = deque()
        self._open: dict[str, Collected] = {}
        self._refused: set[str] = set()

    def results(self, messages: Iterable[Message]) -> Iterator[Collected | VideoFailure]:
        """Yield every video once: its features as soon as they are complete, or its failure.

        Raises:
            torch.OutOfMemoryError: a batch does not fit.
        """
        for message in messages:
            yield from self._take(message)
            while len(self._waiting) >= self._options.batch:
                self._launch()
                yield from self._collect(leave=0 if self._on_cpu else 1)
        while self._waiting:
            self._launch()
        yield from self._collect(leave=0)
        assert not self._open, sorted(self._open)

    def _take(self, message: Message) -> Iterator[Collected | VideoFailure]:
        if isinstance(message, Broken):
            raise message.error
        if isinstance(message, Failed):
            yield from self._fail(message.failure)
            return
        if message.reading.unwanted:
            return
        collected = self._collected(message.reading)
        if isinstance(message, Clips):
            self._waiting += [(collected, clip) for clip in message.clips]
        elif isinstance(message, Ended):
            collected.max_time_error = message.max_time_error
            yield from self._if_complete(collected)

    def _collected(self, reading: Reading) -> Collected:
        known = self._open.get(reading.video.id)
        if known is None or known.reading is not reading:
            self._drop(reading.video.id)
            spools = [FeatureSpool(reading.grid.count, self._options.dtype) for _ in self._encoder.readouts]
            known = self._open[reading.video.id] = Collected(reading, spools)
        return known

    def _launch(self) -> None:
        some = self._waiting[: self._options.batch]
        del self._waiting[: self._options.batch]
        clips = [clip for _, clip in some]
        clips += clips[-1:] * (self._options.batch - len(clips))
        clips_btkchw = torch.stack(clips)
        if self._encoder.device.type == "cuda":
            clips_btkchw = clips_btkchw.pin_memory()
        self._under_way.append((self._encoder.launch(clips_btkchw), [collected for collected, _ in some]))

    def _collect(self, *, leave: int) -> Iterator[Collected | VideoFailure]:
        while len(self._under_way) > leave:
            batch, owners = self._under_way.popleft()
            features = batch.result()
            self._times.encoded(batch.seconds())
            begin = 0
            for collected, group in itertools.groupby(owners):
                end = begin + len(list(group))
                if not collected.dropped:
                    yield from self._add(collected, [values[begin:end] for values in features])
                begin = end

    def _add(self, collected: Collected, features: list[Tensor]) -> Iterator[Collected | VideoFailure]:
        try:
            collected.add(features)
        except (ValueError, OSError) as error:
            collected.reading.unwanted = True
            yield from self._fail(failure_of(collected.reading.video, "encode", error))
            return
        yield from self._if_complete(collected)

    def _if_complete(self, collected: Collected) -> Iterator[Collected]:
        if collected.complete:
            del self._open[collected.reading.video.id]
            yield collected

    def _fail(self, failure: VideoFailure) -> Iterator[VideoFailure]:
        self._drop(failure.id)
        # The decoding thread may fail too before it learns that nobody wants the video.
        if failure.id not in self._refused:
            self._refused.add(failure.id)
            yield failure

    def _drop(self, video_id: str) -> None:
        known = self._open.pop(video_id, None)
        if known is not None:
            known.drop()
            self._waiting = [(owner, clip) for owner, clip in self._waiting if owner is not known]
