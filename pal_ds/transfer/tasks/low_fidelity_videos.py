"""Whole untrimmed videos at low fidelity: evenly spaced snippets of small frames, decoded on demand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from pal_ds.formats.feature_folder import FeatureError
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.video_opening import FrameError
from pal_ds.transfer.extraction.video_source import VideoRef, open_video

#: Frames decoded at a time, which bounds the memory of a video at its own size.
_AT_ONCE = 64


class LowFidelityVideos(Dataset[Tensor]):
    """Videos as snippets.

    Args:
        videos: which, in order.
        snippets: N, evenly over a video: snippet n lies about the middle of the n-th of N equal parts.
        frames: T, of a snippet.
        stride: frames between two frames of a snippet.
        size: side of a frame in pixels: the short side is scaled to it, the middle square is taken.
        seed: of mirroring in training; None never mirrors.

    Attributes:
        epoch: number of the epoch, from which mirroring is drawn.
    """

    def __init__(
        self,
        videos: Sequence[VideoRef],
        *,
        snippets: int,
        frames: int,
        stride: int,
        size: int,
        seed: int | None,
    ) -> None:
        self.videos, self.snippets, self.frames = videos, snippets, frames
        self.stride, self.size, self.seed, self.epoch = stride, size, seed, 0

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, item: int) -> Tensor:
        """Decode one video.

        Returns:
            uint8 [N, 3, T, size, size].

        Raises:
            FeatureError: it can't be decoded.
        """
        video = self.videos[item]
        try:
            stream = FrameStream(open_video(video))
            wanted_nt = snippet_frames(stream.frames, self.snippets, self.frames, self.stride)
            numbers, place = torch.unique(wanted_nt, sorted=True, return_inverse=True)
            small = [self._small(stream.read(part.tolist())) for part in numbers.split(_AT_ONCE)]
        except (FrameError, RuntimeError) as error:
            raise FeatureError(f"{video.source}: {str(error).splitlines()[0]}") from None
        clips_ntchw = torch.cat(small)[place]
        if self._mirrored(item):
            clips_ntchw = clips_ntchw.flip(4)
        return clips_ntchw.transpose(1, 2)

    def _small(self, frames_nchw: Tensor) -> Tensor:
        height, width = frames_nchw.shape[2:]
        scale = self.size / min(height, width)
        target = [max(self.size, round(side * scale)) for side in (height, width)]
        resized = F.interpolate(frames_nchw, size=target, mode="bilinear", antialias=True)
        top, left = (target[0] - self.size) // 2, (target[1] - self.size) // 2
        return resized[:, :, top : top + self.size, left : left + self.size]

    def _mirrored(self, item: int) -> bool:
        if self.seed is None:
            return False
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) * 1_000_003 + item)
        return bool(torch.rand((), generator=generator) < 0.5)


def snippet_frames(count: int, snippets: int, frames: int, stride: int) -> Tensor:
    """Return the frames of every snippet of a video of ``count`` frames, int64 [snippets, frames].

    Frames before the first or behind the last are the first or last; the stride is lowered where a snippet would not
    fit into the video.
    """
    stride = max(1, min(stride, (count - 1) // max(1, frames - 1)))
    middle_n1 = (torch.arange(snippets).unsqueeze(1) * 2 + 1) * count // (2 * snippets)
    offset_t = torch.arange(frames) * stride - (frames - 1) * stride // 2
    return (middle_n1 + offset_t).clamp(0, count - 1)
