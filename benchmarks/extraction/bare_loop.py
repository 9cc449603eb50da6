"""The bound: decode, resize, crop and encode in a bare loop, whole batches across videos, nothing overlapped."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torchcodec.decoders import VideoDecoder

from pal_ds.transfer.extraction.frozen_encoder import PRECISIONS, ClipEncoder

CHUNK = 128


class BareLoop:
    """A loop over videos with the sizes, statistics and precision of an encoder.

    Args:
        encoder: gives them.
        backbone: its network.
        batch: clips a forward pass.
    """

    def __init__(self, encoder: ClipEncoder, backbone: torch.nn.Module, *, batch: int) -> None:
        self._frames = encoder.spec.clip_frames
        self._size, self._short = encoder.size, encoder.short_side
        self._device, self._batch, self._backbone = encoder.device, batch, backbone
        self._dtype = PRECISIONS[encoder.precision]
        self._mean = torch.tensor(encoder.spec.mean, device=self._device).view(3, 1, 1, 1)
        self._std = torch.tensor(encoder.spec.std, device=self._device).view(3, 1, 1, 1)
        self._waiting: list[torch.Tensor] = []
        self._features: list[torch.Tensor] = []

    def run(self, folder: Path) -> int:
        """Encode every clip of every video; returns the number of clips."""
        self._features = []
        for path in sorted(folder.glob("*.mp4")):
            decoder = VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1)
            whole = len(decoder) // self._frames * self._frames
            for begin in range(0, whole, CHUNK):
                frames = decoder.get_frames_in_range(begin, min(begin + CHUNK, whole)).data
                frames = self._cropped(frames)
                self._waiting += frames.reshape(-1, self._frames, *frames.shape[1:]).unbind()
                while len(self._waiting) >= self._batch:
                    self._encode()
        if self._waiting:
            self._encode()
        return sum(map(len, self._features))

    def _cropped(self, frames: torch.Tensor) -> torch.Tensor:
        height, width = frames.shape[2:]
        scale = self._short / min(height, width)
        target = [max(self._size, round(side * scale)) for side in (height, width)]
        frames = F.interpolate(frames, size=target, mode="bilinear", antialias=True)
        top, left = (target[0] - self._size) // 2, (target[1] - self._size) // 2
        return frames[:, :, top : top + self._size, left : left + self._size]

    def _encode(self) -> None:
        some, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
        halved = torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)
        with torch.inference_mode():
            clips = torch.stack(some).to(self._device).transpose(1, 2)
            scaled = clips.to(torch.float32, memory_format=torch.channels_last_3d)
            scaled = scaled.div_(255).sub_(self._mean).div_(self._std)
            with halved:
                self._features.append(self._backbone(scaled).float().cpu())
