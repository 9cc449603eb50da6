"""The file that holds a bare backbone: ``backbone.safetensors``, weights with plain keys and a header."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pal_ds.config.base import ConfigError
from pal_ds.config.encoders import PREFIX, encoder_of, names_encoder
from pal_ds.config.loading import build as build_section
from pal_ds.config.model import ModelConfig

FORMAT = "pal-backbone/1"


class BackboneError(ValueError):
    """A source that holds no usable backbone: says which file or field, and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """What must be known of a backbone to build it and to feed it.

    Attributes:
        backbone: name for ``pal_ds.models.build_backbone``.
        width: factor on its channel counts.
        feature_dim: size of the vector it returns per clip.
        clip_frames: frames per clip it was trained on.
        size: height and width of its input in pixels.
        mean: channel means (RGB, of values in [0, 1]) subtracted from the input.
        std: channel deviations the input is divided by.
        options: further arguments of ``build_backbone``.
        digest: SHA-256 of names, shapes and values of all weights; equal for equal weights, wherever read.
        source: where it was read from, without credentials.
    """

    backbone: str
    width: float
    feature_dim: int
    clip_frames: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    options: dict[str, Any]
    digest: str
    source: str

    def metadata(self) -> dict[str, str]:
        """Return the header of ``backbone.safetensors`` (all values are strings there)."""
        return {
            "format": FORMAT,
            "backbone": self.backbone,
            "width": json.dumps(self.width),
            "feature_dim": str(self.feature_dim),
            "clip_frames": str(self.clip_frames),
            "size": str(self.size),
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "options": json.dumps(self.options, sort_keys=True),
        }


def backbone_bytes(tensors: Mapping[str, Tensor], spec: BackboneSpec) -> bytes:
    """Return the content of a ``backbone.safetensors`` file.

    Args:
        tensors: the backbone's ``state_dict()``.
        spec: becomes the header.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content: bytes = safetensors.torch.save(plain, metadata=spec.metadata())
    return content


def weights_digest(tensors: dict[str, Tensor]) -> str:
    """Return SHA-256 over names, types, shapes and values of ``tensors`` in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fields_of_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of a :class:`BackboneSpec` that a run's config settles: all but feature size and digest.

    Args:
        config: the resolved config as plain sections.
        where: named in errors.

    Raises:
        BackboneError: a section lacks or garbles a field.
    """
    try:
        model = build_section(ModelConfig, _without_folder(config["model"]), "model.")
        synthesis, augment = config["synthesis"], config["augment"]
        return {
            "backbone": f"{PREFIX}{encoder_of(model.encoder).kind}" if model.encoder else model.backbone,
            "width": model.width,
            "clip_frames": int(synthesis["clip_frames"]),
            "size": int(synthesis["size"]),
            "mean": triple(augment["mean"]),
            "std": triple(augment["std"]),
            "options": model.backbone_options(),
        }
    except ConfigError as error:
        raise BackboneError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(f"{where}: config lacks or garbles {error}") from error


def _without_folder(model: dict[str, Any]) -> dict[str, Any]:
    """Return the model section of a run that needs no folder of an encoder: its config is in the section."""
    if names_encoder(str(model.get("backbone", ""))) and model.get("encoder"):
        return {**model, "backbone": PREFIX}
    return model


def triple(values: Any) -> tuple[float, float, float]:
    """Return three channel values as floats; raises ValueError or TypeError where they are not three numbers."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
