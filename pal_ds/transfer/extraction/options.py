"""What a user asks of an extraction, and the settings that a destination is bound to."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import torch
from torch import nn

from pal_ds.config.base import ConfigError, check, option
from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.formats.feature_sidecar import FORMAT
from pal_ds.transfer.extraction.frozen_encoder import CROPS, PRECISIONS, ClipEncoder
from pal_ds.transfer.extraction.readouts import HELP, OUTPUT, Readout, parse_readouts

DTYPES = ("float32", "float16")
_USUAL = {"stride_seconds": 0.0, "precision": "fp32", "dtype": "float32"}
#: Videos that a rank with an accelerator decodes at a time where nobody says.
_MOST_WORKERS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How videos are sampled and encoded.

    Raises:
        ConfigError: a value out of its range.
    """

    clip_frames: int = option(0, "sampled frames per clip; 0 takes what the backbone was trained on (8)")
    stride: int = option(0, "sampled frames between clips; 0 is clip_frames, so clips don't overlap")
    stride_seconds: float = option(0.0, "seconds between clips instead of frames; 0 counts in frames")
    fps: float = option(0.0, "sample so many frames per second by time stamp; 0 takes every frame")
    size: int = option(0, "side of the square input in pixels; 0 takes what the backbone was trained on")
    short_side: int = option(0, "frames are resized to it before cropping; 0 is size * 8/7 (128 for 112)")
    crop: str = option("centre", "centre, or three crops along the longer side with averaged features")
    layers: tuple[str, ...] = option((), f"what to read in one pass, each into a folder of its own: {HELP}")
    keep_tokens: bool = option(False, "keep the tokens behind each pooled feature too")
    precision: str = option("fp32", "fp32, or bf16 or fp16 by autocast")
    dtype: str = option("float32", "of the features that are written: float32 or float16")
    batch: int = option(16, "clips per forward pass, of one video or several")
    workers: int = option(0, "videos a rank decodes at a time; 0 is 1 on a CPU, else its share of the cores")
    threads: int = option(1, "FFmpeg decoding threads per video")

    def __post_init__(self) -> None:
        for name in ("clip_frames", "stride", "size", "short_side", "workers"):
            check(getattr(self, name) >= 0, _flag(name), getattr(self, name), "use 0 (automatic) or more")
        check(0 <= self.fps < 1000 and math.isfinite(self.fps), "--fps", self.fps, "use native or up to 1000")
        seconds = self.stride_seconds
        check(0 <= seconds < math.inf, "--stride-seconds", seconds, "use 0 (off) or more")
        check(not (seconds and self.stride), "--stride-seconds", seconds, "--stride says it too; give one")
        if seconds and self.fps:
            most = f"less than a sampled frame; use at least {1 / self.fps:.4g}"
            check(self.stride_of(self.fps) >= 1, "--stride-seconds", seconds, most)
        for name, known in (("crop", CROPS), ("precision", tuple(PRECISIONS)), ("dtype", DTYPES)):
            check(getattr(self, name) in known, _flag(name), getattr(self, name), f"use {', '.join(known)}")
        for name in ("batch", "threads"):
            check(getattr(self, name) >= 1, _flag(name), getattr(self, name), "use at least 1")
        if self.keep_tokens and self.crop == "three":
            raise ConfigError("--keep-tokens", True, "has no meaning for --crop three; use centre")
        self.readouts()

    def readouts(self) -> tuple[Readout, ...]:
        """Return what is read from the backbone."""
        return parse_readouts(self.layers, keep_tokens=self.keep_tokens)

    def folder_of(self, readout: Readout) -> str:
        """Return the folder of a readout below the destination; empty where it is the destination itself."""
        return "" if readout == OUTPUT and not self.layers else readout.folder

    def stride_of(self, fps: float) -> float:
        """Return the sampled frames between two clips of a video with so many a second."""
        if not self.stride_seconds:
            return self.stride
        frames = self.stride_seconds * fps
        return round(frames) if math.isclose(frames, round(frames), rel_tol=1e-9) else frames

    def resolved(self, encoder: ClipEncoder) -> ExtractOptions:
        """Return the same with every 0 that means "automatic" replaced (fps stays 0 for native)."""
        clip_frames = self.clip_frames or encoder.spec.clip_frames
        return dataclasses.replace(
            self,
            clip_frames=clip_frames,
            stride=0 if self.stride_seconds else self.stride or clip_frames,
            size=encoder.size,
            short_side=encoder.short_side,
            workers=self.workers or _workers(encoder.device.type),
        )

    def settings(self, encoder: ClipEncoder) -> dict[str, dict[str, Any]]:
        """Return what decides the values of features, as ``extract.json`` keeps it, by folder of the destination."""
        full = self.resolved(encoder)
        dims = {OUTPUT: encoder.feature_dim}
        if encoder.readouts != (OUTPUT,):
            shapes = encoder.shapes(full.clip_frames)
            dims = {one: shape[-1] for one, shape in zip(encoder.readouts, shapes, strict=True)}
        fixed: dict[str, Any] = {"format": FORMAT, "checkpoint": encoder.spec.digest}
        fixed["backbone"] = encoder.spec.backbone
        # What isn't as it always was is named at the end; so folders of earlier versions go on.
        named = {name: getattr(full, name) for name, usual in _USUAL.items() if getattr(full, name) != usual}
        sampling = {
            "clip_frames": full.clip_frames,
            **({} if full.stride_seconds else {"stride": full.stride}),
            "fps": full.fps or "native",
            "size": full.size,
            "short_side": full.short_side,
            "crop": full.crop,
            **named,
        }
        return {
            self.folder_of(readout): {
                **fixed,
                "feature_dim": dims[readout],
                **sampling,
                **({} if readout == OUTPUT else {"readout": readout.name}),
            }
            for readout in encoder.readouts
        }


def encoder_for(
    backbone: nn.Module, spec: BackboneSpec, options: ExtractOptions, device: torch.device | str = "cpu"
) -> ClipEncoder:
    """Return a backbone as these options read it.

    Raises:
        ConfigError: it can't be read so.
    """
    try:
        return ClipEncoder(
            backbone,
            spec,
            device=device,
            size=options.size,
            short_side=options.short_side,
            crop=options.crop,
            precision=options.precision,
            readouts=options.readouts(),
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("--short-side", options.short_side, str(error)) from error


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _workers(device_type: str) -> int:
    """Return how many videos to decode at a time: beside a CPU's encoder one keeps up, and more take its cores."""
    if device_type == "cpu":
        return 1
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0)) // ranks - 1))
