"""Clips of decoded frames in, feature vectors out: the frozen backbone as transfer uses it.

Frames of any size are resized (short side), cropped and normalised as in training; heads are gone, the feature
is the backbone's pooled output (research on the paper's §4.1: the 1024-d I3D vector per clip).
"""

from __future__ import annotations

import threading

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pal_ds.formats.backbone_file import BackboneSpec

CROPS = ("centre", "three")
#: Short side over crop size where nothing else is asked for: 128 for 112.
SHORT_SIDE_RATIO = 8 / 7


class ClipEncoder:
    """A frozen backbone with its preprocessing; safe to call from several threads (one forward at a time).

    Args:
        backbone: [B, 3, T, H, W] float in, [B, feature_dim] out.
        spec: input statistics and sizes.
        device: where the forward pass runs.
        size: side of the square crop in pixels; 0 takes the one trained on.
        short_side: frames are resized to it before cropping; 0 takes ``size * 8 / 7`` (128 for 112).
        crop: ``centre``, or ``three`` along the longer side, whose features are averaged.

    Raises:
        ValueError: an unknown crop, or a short side under the crop size.
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
        self._backbone = backbone.to(self.device).eval()
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
        batch, frames, crops = clips_btkchw.shape[:3]
        with self._lock, torch.inference_mode():
            clips = clips_btkchw.to(self.device, non_blocking=True)
            clips_ncthw = clips.permute(0, 2, 3, 1, 4, 5).reshape(
                batch * crops, 3, frames, self.size, self.size
            )
            # As in training; on a CPU 3D pooling of channels-first input takes eight times as long.
            scaled = clips_ncthw.to(torch.float32, memory_format=torch.channels_last_3d)
            scaled = scaled.div_(255.0).sub_(self._mean_c111).div_(self._std_c111)
            features_nc: Tensor = self._backbone(scaled).float()
            return features_nc.view(batch, crops, -1).mean(dim=1).cpu()

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
