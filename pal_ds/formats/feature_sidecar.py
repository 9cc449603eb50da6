"""What a feature file means: the ``v_<id>.json`` beside every ``v_<id>.npy`` (docs/formats.md, "Features")."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds.formats.shardset import dump_json

FORMAT = "pal-features/1"
_OPTIONAL = ("readout", "precision", "tokens")


class SidecarError(ValueError):
    """A sidecar that can't be understood."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sidecar:
    """Time axis and origin of one video's features.

    Feature t covers sampled frames ``[offset + t * stride, offset + t * stride + clip_frames)`` and is centred
    at ``(offset + t * stride + clip_frames / 2) / fps`` seconds.

    Attributes:
        id: the video's id; files are named ``v_<id>``.
        source: file or shard sample the video was read from, relative to the given source.
        fps: sampled frames per second (the video's own average, or the constant rate asked for).
        clip_frames: sampled frames per feature.
        stride: sampled frames between two features.
        offset: sampled frame at which the first clip starts; 0 in what this project extracts.
        duration: length of the video in seconds.
        frames: sampled frames of the video, padding not counted.
        padded: frames added by repeating the last one (only where the video is shorter than one clip).
        features: T, the number of features.
        feature_dim: C, the size of each.
        sampling: ``native`` (every frame), ``constant`` (resampled by time), or ``imported``.
        crop: ``centre``, ``three`` (mean of the features of three crops), or ``imported``.
        size: side of the square input in pixels; 0 where unknown.
        checkpoint: SHA-256 of the backbone's weights, or what is known of imported features.
        max_time_error: largest gap in seconds between a frame's time stamp and ``frame / fps``; above a frame
            or two only for variable-rate video read natively.
        readout: what was read from the backbone: ``output``, ``mean``, ``layer:3``, …
        precision: of the forward pass: ``fp32``, ``bf16`` or ``fp16``.
        tokens: places of a clip that were not pooled, e.g. [time, height, width]; the array is [T, *tokens, C].
    """

    id: str
    source: str
    fps: float
    clip_frames: int
    stride: float
    offset: float
    duration: float
    frames: int
    padded: int
    features: int
    feature_dim: int
    sampling: str
    crop: str
    size: int
    checkpoint: str
    max_time_error: float = 0.0
    readout: str = "output"
    precision: str = "fp32"
    tokens: tuple[int, ...] = ()

    def centres(self) -> NDArray[np.float64]:
        """Return the centre of every feature in seconds, float64 [T]."""
        steps = np.arange(self.features, dtype=np.float64)
        return (self.offset + steps * self.stride + self.clip_frames / 2) / self.fps

    def to_json(self) -> bytes:
        """Return the file's bytes; equal sidecars give equal bytes."""
        fields = dataclasses.asdict(self)
        # As files always were, where nothing of this was asked for.
        usual = {field.name: field.default for field in dataclasses.fields(self) if field.name in _OPTIONAL}
        kept = {name: value for name, value in fields.items() if name not in usual or value != usual[name]}
        return dump_json({"format": FORMAT, **kept})

    @classmethod
    def from_json(cls, data: bytes) -> Sidecar:
        """Parse a sidecar; fields of later versions are passed over.

        Raises:
            SidecarError: no JSON object, another format, or a field is missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            document: Any = json.loads(data)
            if document.get("format") != FORMAT:
                raise SidecarError(f"format is {document.get('format')!r}, this version reads {FORMAT!r}")
            values = {name: value for name, value in document.items() if name in known}
            return cls(**values | {"tokens": tuple(values.get("tokens", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise SidecarError(f"feature sidecar: {error}") from error


def array_name(video_id: str) -> str:
    """Return the file name of a video's features."""
    return f"v_{video_id}.npy"


def sidecar_name(video_id: str) -> str:
    """Return the file name of a video's sidecar."""
    return f"v_{video_id}.json"
