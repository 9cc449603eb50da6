"""What a user asks of an extraction, and the settings that a destination is bound to."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pal_ds.config.base import check, option
from pal_ds.formats.feature_sidecar import FORMAT
from pal_ds.transfer.extraction.frozen_encoder import CROPS, ClipEncoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How videos are sampled and encoded.

    Raises:
        ConfigError: a value out of its range.
    """

    clip_frames: int = option(0, "sampled frames per clip; 0 takes what the backbone was trained on (8)")
    stride: int = option(0, "sampled frames between clips; 0 is clip_frames, so clips don't overlap")
    fps: float = option(0.0, "sample so many frames per second by time stamp; 0 takes every frame")
    size: int = option(0, "side of the square input in pixels; 0 takes what the backbone was trained on")
    short_side: int = option(0, "frames are resized to it before cropping; 0 is size * 8/7 (128 for 112)")
    crop: str = option("centre", "centre, or three crops along the longer side with averaged features")
    batch: int = option(16, "clips per forward pass")
    workers: int = option(1, "videos a rank works on at a time")
    threads: int = option(1, "FFmpeg decoding threads per video")

    def __post_init__(self) -> None:
        for name in ("clip_frames", "stride", "size", "short_side"):
            check(getattr(self, name) >= 0, f"--{name}", getattr(self, name), "use 0 (automatic) or more")
        check(0 <= self.fps < 1000 and math.isfinite(self.fps), "--fps", self.fps, "use native or up to 1000")
        check(self.crop in CROPS, "--crop", self.crop, f"use one of {', '.join(CROPS)}")
        for name in ("batch", "workers", "threads"):
            check(getattr(self, name) >= 1, f"--{name}", getattr(self, name), "use at least 1")

    def resolved(self, encoder: ClipEncoder) -> ExtractOptions:
        """Return the same with every 0 that means "automatic" replaced (fps stays 0 for native)."""
        clip_frames = self.clip_frames or encoder.spec.clip_frames
        return dataclasses.replace(
            self,
            clip_frames=clip_frames,
            stride=self.stride or clip_frames,
            size=encoder.size,
            short_side=encoder.short_side,
        )

    def settings(self, encoder: ClipEncoder) -> dict[str, Any]:
        """Return what decides the values of features, as ``extract.json`` keeps it."""
        full = self.resolved(encoder)
        return {
            "format": FORMAT,
            "checkpoint": encoder.spec.digest,
            "backbone": encoder.spec.backbone,
            "feature_dim": encoder.feature_dim,
            "clip_frames": full.clip_frames,
            "stride": full.stride,
            "fps": full.fps or "native",
            "size": full.size,
            "short_side": full.short_side,
            "crop": full.crop,
        }
