"""Decoding: one call per video, for all frames that all its roles need (docs/design.md, "Synthesis")."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import torch
from torchcodec.decoders import VideoDecoder

from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.data.errors import ClipDecodeError, DecoderUnavailableError
from pal_ds.formats.shardset import SampleRecord
from pal_ds.formats.video_file import HEAD_BYTES, is_container
from pal_ds.storage.errors import first_line

log = logging.getLogger(__name__)


def decode_device(data: DataConfig) -> str:
    """Return the device on which the workers of this rank decode: ``cpu``, or the process's current CUDA device.

    Raises:
        ConfigError: CUDA is asked for, and this process sees none.
    """
    if data.decode_device == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(
            "data.decode_device", data.decode_device, "this process sees no CUDA device; use cpu"
        )
    return f"cuda:{torch.cuda.current_device()}"


def decode_frames(
    video: bytes, record: SampleRecord, indices: Sequence[int], *, device: str = "cpu"
) -> torch.Tensor:
    """Decode frames of one clip in one request, in the order given (the decoder sorts and dedups inside).

    Args:
        video: the encoded file.
        record: what the shard set says of it; the decoder must find the same frame count and size, because a
            truncated file decodes without an error otherwise.
        indices: frame numbers; repeats are allowed and cost a copy only.
        device: ``cpu``, or a CUDA device, whose video engine decodes; frames stay there.

    Returns:
        uint8 [len(indices), height, width, 3].

    Raises:
        ClipDecodeError: it can't be decoded, or is not what the record says.
        DecoderUnavailableError: the installed torchcodec can't decode on ``device`` at all.
    """
    if not is_container(video[:HEAD_BYTES]):
        raise ClipDecodeError(record.key, "no video container by its first bytes")
    try:
        decoder = VideoDecoder(
            video, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact", device=device
        )
        found = len(decoder)
        if found != record.frames:
            raise ClipDecodeError(record.key, f"{found} frames instead of {record.frames}")
        frames: torch.Tensor = decoder.get_frames_at(list(indices)).data
        if device != "cpu" and getattr(decoder, "cpu_fallback", None):
            _warn_of_fallback(device, str(decoder.cpu_fallback))
    except (RuntimeError, ValueError, IndexError) as error:
        if device != "cpu" and "nsupported device" in str(error):
            raise DecoderUnavailableError(
                f"data.decode_device: this torchcodec can't decode on {device}: install a build with CUDA, or use cpu"
            ) from error
        raise ClipDecodeError(record.key, first_line(error)) from error
    if tuple(frames.shape[1:]) != (record.height, record.width, 3):
        height, width = frames.shape[1:3]
        raise ClipDecodeError(
            record.key, f"{width}x{height} pixels instead of {record.width}x{record.height}"
        )
    return frames


@functools.cache
def _warn_of_fallback(device: str, status: str) -> None:
    """Say once in a process that the CPU decodes what the GPU was to decode."""
    log.warning("data.decode_device = cuda: the CPU decodes in place of %s: %s", device, status)
