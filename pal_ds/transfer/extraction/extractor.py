"""Features of untrimmed videos from a frozen backbone: streamed, resumable, on many ranks.

Per video two files are written, ``v_<id>.npy`` (float32 [T, C]) and then ``v_<id>.json``; a video with both is
finished. The batches of a video never hold clips of another, so its features don't depend on what else is
extracted, on the number of ranks, or on interruptions.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from pal_ds import storage
from pal_ds.ffmpeg import process
from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name
from pal_ds.transfer.extraction.ffmpeg_fallback import with_frames
from pal_ds.transfer.extraction.frame_stream import FrameStream, prefetched
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.tally import Tally, VideoFailure
from pal_ds.transfer.extraction.video_source import VideoRef, open_video


def extract_videos(
    videos: Sequence[VideoRef],
    encoder: ClipEncoder,
    out_url: str,
    options: ExtractOptions,
    *,
    finished: Collection[str] = (),
    on_video: Callable[[VideoRef, Sidecar | VideoFailure | None], None] = lambda video, result: None,
) -> Tally:
    """Extract and write the features of ``videos``; those in ``finished`` are passed over.

    A video that can't be read or decoded is tallied and the work goes on.

    Args:
        videos: this rank's videos.
        encoder: the frozen backbone.
        out_url: destination folder, claimed by :func:`claim_destination`.
        options: sampling and sizes; must fit ``encoder``.
        finished: ids to pass over.
        on_video: called after each video, in this thread, with its sidecar, its failure, or None (passed over).

    Raises:
        StorageError: the destination can't be written.
        torch.OutOfMemoryError: the batch does not fit the device.
    """
    options = options.resolved(encoder)
    tally = Tally()
    pending = []
    for video in videos:
        if video.id in finished:
            tally.skipped += 1
            on_video(video, None)
        else:
            pending.append(video)
    for video, result in _results(pending, encoder, out_url, options):
        _add(tally, result)
        on_video(video, result)
    return tally


def encode_stream(
    stream: FrameStream, encoder: ClipEncoder, *, clip_frames: int, stride: int, batch: int
) -> Iterator[Tensor]:
    """Yield the features of a video in order, float32 [<=batch, C], in memory bounded by a few chunks.

    Clip t is sampled frames ``[t * stride, t * stride + clip_frames)``; frames after the last whole clip are
    left out; a video shorter than one clip gives one, its last frame repeated.
    """
    count = count_clips(stream.frames, clip_frames, stride)
    span = (count - 1) * stride + clip_frames
    # With stride > clip_frames the frames between two clips are not asked for.
    numbers = (number for number in range(span) if number % stride < clip_frames)
    prepared = (
        (chunk, encoder.prepare(frames, pixel_aspect=stream.pixel_aspect))
        for chunk, frames in stream.chunks(numbers)
    )
    window: deque[tuple[int, Tensor]] = deque()
    clips: list[Tensor] = []
    start = 0
    for chunk, frames_nkchw in prefetched(prepared):
        for number, frame_kchw in zip(chunk, frames_nkchw, strict=True):
            window.append((number, frame_kchw))
            if number == start + clip_frames - 1:
                clips.append(torch.stack([frame for _, frame in window]))
                start += stride
                while window and window[0][0] < start:
                    window.popleft()
            if len(clips) == batch:
                yield encoder.encode(torch.stack(clips))
                clips = []
    if clips:
        yield encoder.encode(torch.stack(clips))


def count_clips(frames: int, clip_frames: int, stride: int) -> int:
    """Return T: whole clips that fit in ``frames``, at least 1."""
    return max(0, frames - clip_frames) // stride + 1


def _results(
    videos: Sequence[VideoRef], encoder: ClipEncoder, out_url: str, options: ExtractOptions
) -> Iterator[tuple[VideoRef, Sidecar | VideoFailure]]:
    # One video at a time stays in this thread: in another one torch sets up a second team of threads, and where the
    # two teams outnumber the cores, each waits for its own in the slow way at every layer.
    if options.workers == 1:
        for video in videos:
            yield video, _extract_one(video, encoder, out_url, options)
        return
    process.allow_again()
    with ThreadPoolExecutor(options.workers, thread_name_prefix="video") as pool:
        futures = {pool.submit(_extract_one, video, encoder, out_url, options): video for video in videos}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            # The pool's threads wait for their tools, and leaving the pool for its threads.
            process.stop_all()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _extract_one(
    video: VideoRef, encoder: ClipEncoder, out_url: str, options: ExtractOptions
) -> Sidecar | VideoFailure:
    with tempfile.TemporaryDirectory(prefix="pal-features-") as folder:
        spool = Path(folder) / "features.npy"
        stage = "open"

        def spool_features(stream: FrameStream) -> Sidecar:
            nonlocal stage
            stage = "decode"
            with spool.open("wb") as file:
                return _spool_features(video, stream, encoder, options, file)

        try:
            sidecar = with_frames(
                lambda: open_video(video),
                spool_features,
                name=video.source,
                fps=options.fps,
                threads=options.threads,
                # Twice the side that is needed: the encoder's own resizing then decides what the network sees.
                side=2 * options.short_side,
            )
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:500]
            return VideoFailure(
                id=video.id, source=video.source, stage=stage, error=f"{type(error).__name__}: {text}"
            )
        storage.upload_file(spool, storage.join(out_url, array_name(video.id)))
    storage.write_bytes(storage.join(out_url, sidecar_name(video.id)), sidecar.to_json())
    return sidecar


def _spool_features(
    video: VideoRef, stream: FrameStream, encoder: ClipEncoder, options: ExtractOptions, file: IO[bytes]
) -> Sidecar:
    count = count_clips(stream.frames, options.clip_frames, options.stride)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, encoder.feature_dim)}
    np.lib.format.write_array_header_1_0(file, header)
    written = 0
    for features_nc in encode_stream(
        stream, encoder, clip_frames=options.clip_frames, stride=options.stride, batch=options.batch
    ):
        if not bool(torch.isfinite(features_nc).all()):
            raise ValueError(f"features {written} to {written + len(features_nc) - 1} are not finite")
        file.write(features_nc.numpy().astype("<f4", copy=False).tobytes())
        written += len(features_nc)
    assert written == count, (written, count)
    return Sidecar(
        id=video.id,
        source=video.source,
        fps=stream.fps,
        clip_frames=options.clip_frames,
        stride=options.stride,
        offset=0,
        duration=stream.duration,
        frames=stream.frames,
        padded=max(0, options.clip_frames - stream.frames),
        features=count,
        feature_dim=encoder.feature_dim,
        sampling="constant" if options.fps else "native",
        crop=options.crop,
        size=options.size,
        checkpoint=encoder.spec.digest,
        max_time_error=round(stream.max_time_error, 6),
    )


def _add(tally: Tally, result: Sidecar | VideoFailure) -> None:
    if isinstance(result, VideoFailure):
        tally.failures.append(result)
        return
    tally.written += 1
    tally.clips += result.features
    if result.max_time_error > max(result.clip_frames, 2) / result.fps / 2:
        tally.warnings.append(
            f"{result.source}: its frame rate varies; native time stamps are off by up to "
            f"{result.max_time_error:.2f} s. Use --fps F for exact times"
        )
