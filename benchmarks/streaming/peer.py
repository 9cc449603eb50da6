"""The pipeline a user would write today: webdataset, torchcodec, one decode per role, augmentation on the CPU.

It makes the same thing as the product, float32 views of 8 clips of 8 frames, from the same shards: an action clip and
two background clips are three samples of a shuffled stream, each decoded for what its role needs, augmented with
the usual per-video resized crop, flip, jitter, greyscale and blur, blended, and collated by a DataLoader.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import webdataset
from torch import Tensor
from torchcodec.decoders import VideoDecoder

from pal_ds import storage
from pal_ds.formats import shardset

CLIPS, LENGTH, SIZE = 8, 8, 112


class PairDataset(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """Endless synthetic pairs; every worker reads its own share of the shards.

    Args:
        url: a shard set.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._names = [shard.name for shard in shardset.load_manifest(url).splits["train"].shards]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.set_num_threads(1)
        stream = webdataset.DataPipeline(self._samples, webdataset.filters.shuffle(16, initial=16))
        videos = (sample["mp4"] for sample in stream)
        for action, first, second in zip(videos, videos, videos, strict=False):
            yield pair(action, first, second)

    def _samples(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        mine = self._names[info.id :: info.num_workers] if info else self._names
        while True:
            for name in mine or self._names:
                tar = io.BytesIO(storage.read_bytes(storage.join(self._url, name)))
                members = webdataset.tariterators.tar_file_iterator(tar)
                yield from webdataset.tariterators.group_by_keys(
                    {**member, "__url__": name} for member in members
                )


def pair(action: bytes, first: bytes, second: bytes) -> tuple[Tensor, Tensor]:
    """Decode three videos and paste two regions of the first into the others."""
    views = []
    for background in (first, second):
        ground = augmented(background_frames(background))
        length = random.randint(1, 6)
        start = random.randint(0, CLIPS - length)
        region = augmented(region_frames(action, length * LENGTH))
        inside = ground[start * LENGTH : (start + length) * LENGTH]
        inside.lerp_(region, random.uniform(0.6, 1.0))
        views.append(ground.view(CLIPS, LENGTH, 3, SIZE, SIZE).transpose(1, 2).contiguous())
    return views[0], views[1]


def background_frames(video: bytes) -> Tensor:
    """Eight equally spaced clips."""
    decoder = VideoDecoder(video, num_ffmpeg_threads=1)
    frames = len(decoder)
    stride = max(1, min(4, frames // (CLIPS * LENGTH)))
    room = max(0, frames - ((LENGTH - 1) * stride + 1))
    starts = np.arange(CLIPS) * room // (CLIPS - 1)
    indices = ((starts[:, None] + np.arange(LENGTH) * stride) % frames).ravel().tolist()
    found: Tensor = decoder.get_frames_at(indices).data
    return found


def region_frames(video: bytes, count: int) -> Tensor:
    """One run of frames at a random stride."""
    decoder = VideoDecoder(video, num_ffmpeg_threads=1)
    frames = len(decoder)
    stride = max(1, min(random.randint(1, 4), (frames - 1) // (count - 1)))
    first = random.randint(0, max(0, frames - 1 - stride * (count - 1)))
    indices = [(first + number * stride) % frames for number in range(count)]
    found: Tensor = decoder.get_frames_at(indices).data
    return found


def augmented(frames_nchw: Tensor) -> Tensor:
    """Resized crop, flip, jitter, greyscale, blur and normalisation, one draw for all frames, as torchvision does."""
    height, width = frames_nchw.shape[-2:]
    for _ in range(10):
        area, ratio = random.uniform(0.2, 1.0) * height * width, random.uniform(0.75, 4 / 3)
        h, w = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
        if h <= height and w <= width:
            break
    else:
        h = w = min(height, width)
    top, left = random.randint(0, height - h), random.randint(0, width - w)
    crop = frames_nchw[..., top : top + h, left : left + w]
    frames = F.interpolate(crop, (SIZE, SIZE), mode="bilinear", antialias=True)
    if random.random() < 0.5:
        frames = frames.flip(-1)
    values = frames.float().div_(255)
    if random.random() < 0.8:
        values = jittered(values)
    if random.random() < 0.2:
        values = grey(values).expand_as(values).contiguous()
    if random.random() < 0.5:
        values = blurred(values, random.uniform(0.1, 2.0))
    mean, std = (
        torch.tensor(value).view(3, 1, 1) for value in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    return values.sub_(mean).div_(std)


def grey(values: Tensor) -> Tensor:
    """Luma as one channel."""
    return (values * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


def jittered(values: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, each clamped, in torchvision's way (hue by rotation)."""
    values = values.mul(random.uniform(0.6, 1.4)).clamp_(0, 1)
    factor = random.uniform(0.6, 1.4)
    values = values.mul_(factor).add_((1 - factor) * grey(values).mean() / factor).clamp_(0, 1)
    factor = random.uniform(0.6, 1.4)
    values = values.mul(factor).add_(grey(values), alpha=1 - factor).clamp_(0, 1)
    angle = 2 * np.pi * random.uniform(-0.1, 0.1)
    yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = torch.from_numpy(np.linalg.inv(yiq) @ turn @ yiq).float()
    return torch.einsum("dc,nchw->ndhw", matrix, values).clamp_(0, 1)


def blurred(values: Tensor, sigma: float) -> Tensor:
    """A separable Gaussian of 11 taps."""
    offsets = torch.arange(-5, 6, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, 11).expand(3, 1, 1, 11)
    values = F.conv2d(F.pad(values, (5, 5, 0, 0), mode="reflect"), kernel, groups=3)
    return F.conv2d(F.pad(values, (0, 0, 5, 5), mode="reflect"), kernel.transpose(2, 3), groups=3)
