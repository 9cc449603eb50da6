"""Clips of a labelled shard set, decoded on demand: one drawn clip to train on, evenly spaced ones to score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.tac import TacData
from pal_ds.formats.feature_folder import FeatureError
from pal_ds.formats.shardset import load_manifest
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.video_opening import FrameError
from pal_ds.transfer.extraction.video_source import VideoRef, list_videos, read_sample

#: Short side over crop size in evaluation: 128 for 112.
SHORT_SIDE_RATIO = 8 / 7


class LabelledClips(Dataset[tuple[Tensor, int, str]]):
    """One split's videos.

    Args:
        data: options.
        split: name of the split.
        frames: of a clip.
        size: side of the square clip in pixels.
        seed: of the draws; None takes evenly spaced clips and centre crops.

    Attributes:
        labels: class names, sorted.
        videos: the split's videos, by key.

    Raises:
        ConfigError: the set has no labels or no such split.
    """

    def __init__(self, data: TacData, split: str, *, frames: int, size: int, seed: int | None) -> None:
        manifest = load_manifest(data.shards)
        place = storage.redact(data.shards)
        if not manifest.labels:
            raise ConfigError(
                "data.shards", place, "has no labels; build it with pal-shard build --with-labels"
            )
        if split not in manifest.splits:
            known = ", ".join(sorted(manifest.splits))
            raise ConfigError("data.train_split/evaluate_split", split, f"{place} has {known}")
        self.labels = manifest.labels
        self.videos: Sequence[VideoRef] = list_videos(data.shards, split=split)
        self.data, self.frames, self.size, self.seed, self.epoch = data, frames, size, seed, 0
        self._number = {label: number for number, label in enumerate(self.labels)}

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, item: int) -> tuple[Tensor, int, str]:
        """Read and decode one video.

        Returns:
            Clips uint8 [N, 3, T, size, size] (N is 1 in training), number of the class, key.

        Raises:
            FeatureError: it can't be decoded or has no known label.
        """
        video = self.videos[item]
        sample = read_sample(video)
        if sample.record.label not in self._number:
            raise FeatureError(f"{video.source}: label {sample.record.label!r} isn't in the manifest")
        try:
            stream = FrameStream(sample.video)
            clips = self._evenly(stream) if self.seed is None else self._drawn(stream, item)
        except (FrameError, RuntimeError) as error:
            raise FeatureError(f"{video.source}: {str(error).splitlines()[0]}") from None
        return clips, self._number[sample.record.label], video.id

    def _drawn(self, stream: FrameStream, item: int) -> Tensor:
        """One clip at a random place, in a random crop, mirrored at random; a function of seed, epoch and item."""
        assert self.seed is not None
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) * 1_000_003 + item)
        stride = self._stride(stream)
        last = max(stream.frames - 1 - stride * (self.frames - 1), 0)
        start = int(torch.randint(last + 1, (), generator=generator))
        frames = stream.read(self._numbers(stream, start, stride))
        top, left, height, width = _draw_crop(frames.shape[2], frames.shape[3], self.data.smallest, generator)
        crop = frames[:, :, top : top + height, left : left + width]
        resized = F.interpolate(crop, size=(self.size, self.size), mode="bilinear", antialias=True)
        if torch.rand((), generator=generator) < 0.5:
            resized = resized.flip(3)
        return resized.transpose(0, 1).unsqueeze(0)

    def _evenly(self, stream: FrameStream) -> Tensor:
        stride = self._stride(stream)
        last = max(stream.frames - 1 - stride * (self.frames - 1), 0)
        starts = torch.linspace(0, last, self.data.clips).round().int().tolist()
        return torch.stack(
            [self._centre(stream.read(self._numbers(stream, start, stride))) for start in starts]
        )

    def _stride(self, stream: FrameStream) -> int:
        return max(1, min(self.data.stride, (stream.frames - 1) // max(self.frames - 1, 1)))

    def _numbers(self, stream: FrameStream, start: int, stride: int) -> list[int]:
        return [min(start + stride * number, stream.frames - 1) for number in range(self.frames)]

    def _centre(self, frames_nchw: Tensor) -> Tensor:
        height, width = frames_nchw.shape[2:]
        scale = self.size * SHORT_SIDE_RATIO / min(height, width)
        target = [max(self.size, round(side * scale)) for side in (height, width)]
        resized = F.interpolate(frames_nchw, size=target, mode="bilinear", antialias=True)
        top, left = (target[0] - self.size) // 2, (target[1] - self.size) // 2
        return resized[:, :, top : top + self.size, left : left + self.size].transpose(0, 1)


def _draw_crop(
    height: int, width: int, smallest: float, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Draw a crop by area and aspect ratio (3/4 to 4/3), clipped to the picture: top, left, height, width."""
    area, ratio = torch.rand(2, generator=generator).tolist()
    area = (smallest + (1 - smallest) * area) * height * width
    ratio = (3 / 4) * (16 / 9) ** ratio
    crop_height = min(max(round((area / ratio) ** 0.5), 1), height)
    crop_width = min(max(round((area * ratio) ** 0.5), 1), width)
    top = int(torch.randint(height - crop_height + 1, (), generator=generator))
    left = int(torch.randint(width - crop_width + 1, (), generator=generator))
    return top, left, crop_height, crop_width
