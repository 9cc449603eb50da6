"""Finished videos to their destination, beside the encoder's work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pal_ds import storage
from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name
from pal_ds.transfer.extraction.destination import readout_url
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.pipeline.batching import Collected
from pal_ds.transfer.extraction.readouts import Readout
from pal_ds.transfer.extraction.video_source import VideoRef

_THREADS = 4
#: Videos that may wait to be written; more make the encoder wait.
_MOST_WAITING = 32


class Publisher:
    """Writes arrays and sidecars in threads; a video's sidecars come last.

    Args:
        out_url: the destination.
        encoder: what the features come from.
        options: resolved.
    """

    def __init__(self, out_url: str, encoder: ClipEncoder, options: ExtractOptions) -> None:
        self._out_url = out_url
        self._encoder = encoder
        self._options = options
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="publish")
        self._futures: deque[Future[tuple[VideoRef, Sidecar]]] = deque()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *details: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, collected: Collected) -> None:
        """Begin to write a video's complete features."""
        self._futures.append(self._pool.submit(self._publish, collected))

    def written(self, *, everything: bool = False) -> Iterator[tuple[VideoRef, Sidecar]]:
        """Yield the videos that are written, with the sidecar of the first readout.

        Args:
            everything: wait for those under way.

        Raises:
            StorageError: the destination can't be written.
        """
        while self._futures and (everything or self._futures[0].done() or len(self._futures) > _MOST_WAITING):
            yield self._futures.popleft().result()

    def _publish(self, collected: Collected) -> tuple[VideoRef, Sidecar]:
        video = collected.reading.video
        sidecars = []
        for readout, spool in zip(self._encoder.readouts, collected.spools, strict=True):
            folder = readout_url(self._out_url, readout, self._options)
            spool.publish(storage.join(folder, array_name(video.id)))
            sidecars.append((folder, self._sidecar(collected, readout, spool.shape)))
            spool.close()
        for folder, sidecar in sidecars:
            storage.write_bytes(storage.join(folder, sidecar_name(video.id)), sidecar.to_json())
        return video, sidecars[0][1]

    def _sidecar(self, collected: Collected, readout: Readout, shape: tuple[int, ...]) -> Sidecar:
        reading, options = collected.reading, self._options
        assert collected.max_time_error is not None
        return Sidecar(
            id=reading.video.id,
            source=reading.video.source,
            fps=reading.fps,
            clip_frames=options.clip_frames,
            stride=reading.grid.stride,
            offset=0,
            duration=reading.duration,
            frames=reading.frames,
            padded=max(0, options.clip_frames - reading.frames),
            features=reading.grid.count,
            feature_dim=shape[-1],
            sampling="constant" if options.fps else "native",
            crop=options.crop,
            size=options.size,
            checkpoint=self._encoder.spec.digest,
            max_time_error=round(collected.max_time_error, 6),
            readout=readout.name,
            precision=self._encoder.precision,
            tokens=shape[1:-1],
        )
