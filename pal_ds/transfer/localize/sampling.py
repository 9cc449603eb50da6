"""How a model's videos are sampled and encoded, from what the features of its head say: extraction's own code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pal_ds.config.base import ConfigError
from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions, encoder_for
from pal_ds.transfer.localize.errors import ModelError

_NATIVE, _READOUT = "native", "readout"


def check_sampling(sampling: Mapping[str, Any], where: str) -> None:
    """Refuse settings of an extraction that can't be repeated here.

    Raises:
        ModelError: naming the setting.
    """
    known = {field.name for field in dataclasses.fields(ExtractOptions)} | {_READOUT}
    for name, value in sampling.items():
        if name not in known:
            raise ModelError(f"{where}: features with {name}={value!r} can't be made from new videos here")


def options_of(
    sampling: Mapping[str, Any], *, batch: int = 16, workers: int = 0, threads: int = 1
) -> ExtractOptions:
    """Return the options of an extraction.

    Args:
        sampling: as ``extract.json`` keeps it.
        batch: clips a forward pass.
        workers: videos decoded at a time; 0 is extraction's own choice.
        threads: of FFmpeg.

    Raises:
        ModelError, ConfigError: a setting that can't be run.
    """
    check_sampling(sampling, "model.json")
    values = dict(sampling)
    values["fps"] = 0.0 if values.get("fps") == _NATIVE else float(values.get("fps", 0.0))
    if readout := values.pop(_READOUT, ""):
        values["layers"] = (str(readout),)
    return ExtractOptions(**values, batch=batch, workers=workers, threads=threads)


def encoder_of(
    backbone: nn.Module, spec: BackboneSpec, options: ExtractOptions, device: torch.device | str = "cpu"
) -> ClipEncoder:
    """Return a backbone as extraction uses it.

    Raises:
        ModelError: it can't be used so.
    """
    try:
        return encoder_for(backbone, spec, options, device)
    except ConfigError as error:
        raise ModelError(f"{spec.source}: {error}") from error


def feature_width(backbone: nn.Module, spec: BackboneSpec, sampling: Mapping[str, Any]) -> int:
    """Return C, the size of the features that a backbone gives when it is read so.

    Raises:
        ModelError, ConfigError: it can't be read so.
    """
    if _READOUT not in sampling:
        return spec.feature_dim
    options = options_of(sampling)
    encoder = encoder_of(backbone, spec, options)
    return encoder.shapes(options.resolved(encoder).clip_frames)[0][-1]


def features_folder(options: ExtractOptions) -> str:
    """Return the folder below an extraction's destination where the head's features lie; empty for itself."""
    (readout,) = options.readouts()
    return options.folder_of(readout)
