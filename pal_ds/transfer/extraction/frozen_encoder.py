"""Clips of decoded frames in, feature vectors out: the frozen backbone as transfer uses it.

Frames of any size are resized (short side), cropped and normalised as in training; heads are gone, the feature
is the backbone's pooled output (research on the paper's §4.1: the 1024-d I3D vector per clip).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pal_ds.config.base import ConfigError
from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.models.layers.half_precision import frozen_is_sound
from pal_ds.transfer.extraction.readouts import OUTPUT, Readout, ReadoutRun

CROPS = ("centre", "three")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Short side over crop size where nothing else is asked for: 128 for 112.
SHORT_SIDE_RATIO = 8 / 7


class EncodedBatch:
    """What is read from a batch of clips, perhaps still being computed.

    Args:
        found: for each readout [B, ...], on the CPU or on the way there.
        clock: stopped when ``found`` is there.
    """

    def __init__(self, found: list[Tensor], clock: _Clock) -> None:
        self._found = found
        self._clock = clock
        clock.stop()

    def result(self) -> tuple[Tensor, ...]:
        """Wait for the work; for each readout float32 [B, ...] on the CPU."""
        self._clock.wait()
        return tuple(self._found)

    def seconds(self) -> float:
        """Wait for the work, and return how long it took."""
        return self._clock.seconds()


class _Clock:
    """Times a piece of work on a device, by its own events where it has some."""

    def __init__(self, device: torch.device) -> None:
        self._events: list[torch.Event] = []
        if device.type != "cpu":
            self._events = [torch.Event(device, enable_timing=True) for _ in range(2)]
            self._events[0].record()
        self._begun = self._ended = time.perf_counter()

    def stop(self) -> None:
        if self._events:
            self._events[1].record()
        self._ended = time.perf_counter()

    def wait(self) -> None:
        if self._events:
            self._events[1].synchronize()

    def seconds(self) -> float:
        self.wait()
        if self._events:
            return float(self._events[0].elapsed_time(self._events[1])) / 1000
        return self._ended - self._begun


class ClipEncoder:
    """A frozen backbone with its preprocessing; safe to call from several threads (one forward at a time).

    Args:
        backbone: [B, 3, T, H, W] float in, [B, feature_dim] out.
        spec: input statistics and sizes.
        device: where the forward pass runs.
        size: side of the square crop in pixels; 0 takes the one trained on.
        short_side: frames are resized to it before cropping; 0 takes ``size * 8 / 7`` (128 for 112).
        crop: ``centre``, or ``three`` along the longer side, whose features are averaged.
        precision: ``fp32``, or ``bf16`` or ``fp16`` by autocast.
        readouts: what to read from the backbone, in one pass.

    Raises:
        ValueError: an unknown crop, or a short side under the crop size.
        ConfigError: a precision that gives wrong results here, or a readout that the backbone doesn't have.
    """

    def __init__(
        self,
        backbone: nn.Module,
        spec: BackboneSpec,
        *,
        device: torch.device | str = "cpu",
        size: int = 0,
        short_side: int = 0,
        crop: str = "centre",
        precision: str = "fp32",
        readouts: Sequence[Readout] = (OUTPUT,),
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.size = size or spec.size
        self.short_side = short_side or round(self.size * SHORT_SIDE_RATIO)
        self.crop = crop
        if crop not in CROPS:
            raise ValueError(f"crop = {crop!r}: use one of {', '.join(CROPS)}")
        if self.short_side < self.size:
            raise ValueError(f"short_side = {self.short_side}: use at least the crop size, {self.size}")
        if crop == "three" and not all(readout.pooled for readout in readouts):
            raise ConfigError("--crop", crop, "tokens of three crops have no mean; use centre")
        self.precision = precision
        self.readouts = tuple(readouts)
        self._dtype = _sound_dtype(backbone, self.device, precision)
        self._backbone = backbone.to(self.device).eval()
        self._read = ReadoutRun(self._backbone, self.readouts)
        self._mean_c111 = torch.tensor(spec.mean, device=self.device).view(3, 1, 1, 1)
        self._std_c111 = torch.tensor(spec.std, device=self.device).view(3, 1, 1, 1)
        self._lock = threading.Lock()

    @property
    def feature_dim(self) -> int:
        """C, the size of a feature."""
        return self.spec.feature_dim

    def prepare(self, frames_nchw: Tensor, *, pixel_aspect: float = 1.0) -> Tensor:
        """Resize and crop frames on the CPU.

        Args:
            frames_nchw: uint8 [N, 3, H, W] of any size.
            pixel_aspect: width of a pixel divided by its height; anamorphic frames are resized to square pixels, as
                the sharder does.

        Returns:
            uint8 [N, K, 3, size, size], K crops: 1 (centre) or 3.
        """
        _, _, height, width = frames_nchw.shape
        shown = (height, width * pixel_aspect)
        short = min(shown)
        if short != self.short_side or pixel_aspect != 1.0:
            # A few rows or columns of very long frames must not vanish: at least one pixel a side.
            target = [max(self.size, round(side * self.short_side / short)) for side in shown]
            frames_nchw = F.interpolate(frames_nchw, size=target, mode="bilinear", antialias=True)
        _, _, height, width = frames_nchw.shape
        crops = [
            frames_nchw[..., top : top + self.size, left : left + self.size]
            for top, left in self._corners(height, width)
        ]
        return torch.stack(crops, dim=1)

    def encode(self, clips_btkchw: Tensor) -> Tensor:
        """Encode prepared clips.

        Args:
            clips_btkchw: uint8 [B, T, K, 3, size, size] as cut from :meth:`prepare`.

        Returns:
            float32 [B, C] on the CPU, the mean over the K crops.
        """
        return self.launch(clips_btkchw).result()[0]

    def launch(self, clips_btkchw: Tensor) -> EncodedBatch:
        """Begin to encode prepared clips; on an accelerator this returns before the work is done.

        Args:
            clips_btkchw: uint8 [B, T, K, 3, size, size] as cut from :meth:`prepare`.
        """
        batch, frames, crops = clips_btkchw.shape[:3]
        halved = torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)
        with self._lock, torch.inference_mode():
            clock = _Clock(self.device)
            clips = clips_btkchw.to(self.device, non_blocking=True)
            clips_ncthw = clips.permute(0, 2, 3, 1, 4, 5).reshape(
                batch * crops, 3, frames, self.size, self.size
            )
            # As in training; on a CPU 3D pooling of channels-first input takes eight times as long.
            scaled = clips_ncthw.to(torch.float32, memory_format=torch.channels_last_3d)
            scaled = scaled.div_(255.0).sub_(self._mean_c111).div_(self._std_c111)
            with halved:
                read = self._read(scaled)
            if crops > 1:
                read = tuple(values.reshape(batch, crops, *values.shape[1:]).mean(dim=1) for values in read)
            # Copied behind this batch's work, not behind that of the next one.
            return EncodedBatch([values.to("cpu", non_blocking=True) for values in read], clock)

    def shapes(self, clip_frames: int) -> tuple[tuple[int, ...], ...]:
        """Return the shape of what each readout gives for one clip, found by encoding a black one."""
        crops = 1 if self.crop == "centre" else 3
        black = torch.zeros((1, clip_frames, crops, 3, self.size, self.size), dtype=torch.uint8)
        return tuple(tuple(values.shape[1:]) for values in self.launch(black).result())

    def __call__(self, clips_btchw: Tensor) -> Tensor:
        """Encode clips of raw frames, uint8 [B, T, 3, H, W] of any size, into float32 [B, C]."""
        batch, frames = clips_btchw.shape[:2]
        prepared = self.prepare(clips_btchw.flatten(0, 1))
        return self.encode(prepared.view(batch, frames, *prepared.shape[1:]))

    def _corners(self, height: int, width: int) -> list[tuple[int, int]]:
        spare_height, spare_width = height - self.size, width - self.size
        if self.crop == "centre":
            return [(spare_height // 2, spare_width // 2)]
        if width >= height:
            return [(spare_height // 2, left) for left in (0, spare_width // 2, spare_width)]
        return [(top, spare_width // 2) for top in (0, spare_height // 2, spare_height)]


def _sound_dtype(backbone: nn.Module, device: torch.device, precision: str) -> torch.dtype:
    if precision not in PRECISIONS:
        raise ConfigError("--precision", precision, f"use one of {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    if dtype != torch.float32 and not frozen_is_sound(backbone, device.type, dtype):
        fix = f"3D convolutions give wrong results with it on this {device.type}; use another precision"
        raise ConfigError("--precision", precision, fix)
    return dtype
