"""Features of untrimmed videos from a frozen backbone: streamed, resumable, on many ranks.

Per video two files are written, ``v_<id>.npy`` ([T, C]) and then ``v_<id>.json``; a video with both is finished.
Decoding threads cut clips ahead of the encoder, batches hold clips of whatever videos come next, and other threads
write what is finished. The encoder stays in the calling thread: in another one torch sets up a second team of
threads, and where the two teams outnumber the cores, each waits for its own in the slow way at every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.pipeline.batching import BatchEncoder
from pal_ds.transfer.extraction.pipeline.decoding import DecodingThreads
from pal_ds.transfer.extraction.pipeline.publishing import Publisher
from pal_ds.transfer.extraction.pipeline.throughput import Throughput
from pal_ds.transfer.extraction.tally import Tally, VideoFailure
from pal_ds.transfer.extraction.video_source import VideoRef


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
    tally, times = Tally(), Throughput()
    by_id = {video.id: video for video in videos}
    for video in videos:
        if video.id in finished:
            tally.skipped += 1
            on_video(video, None)
    pending = [video for video in videos if video.id not in finished]

    def report(video: VideoRef, result: Sidecar | VideoFailure) -> None:
        tally.add(result)
        on_video(video, result)

    with (
        Publisher(out_url, encoder, options) as publisher,
        DecodingThreads(pending, encoder, options, times) as messages,
    ):
        for result in BatchEncoder(encoder, options, times).results(messages):
            if isinstance(result, VideoFailure):
                report(by_id[result.id], result)
            else:
                publisher.submit(result)
            for video, sidecar in publisher.written():
                report(video, sidecar)
        for video, sidecar in publisher.written(everything=True):
            report(video, sidecar)
    tally.figures = times.figures(tally.clips)
    return tally
