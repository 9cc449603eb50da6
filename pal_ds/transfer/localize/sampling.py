"""How a model's videos are sampled and encoded, from what the features of its head say: extraction's own code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from pal_ds.transfer.extraction.extractor import SETTINGS_NAME, ExtractOptions
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.localize.model_folder import LoadedModel, ModelError

__all__ = ["SETTINGS_NAME", "check_sampling", "encoder_of", "options_of"]
_NATIVE = "native"


def check_sampling(sampling: Mapping[str, Any], where: str) -> None:
    """Refuse settings of an extraction that can't be repeated here.

    Raises:
        ModelError: naming the setting.
    """
    known = {field.name for field in dataclasses.fields(ExtractOptions)}
    for name, value in sampling.items():
        if name not in known:
            raise ModelError(f"{where}: features with {name}={value!r} can't be made from new videos here")


def options_of(
    sampling: Mapping[str, Any], *, batch: int, workers: int | None, threads: int
) -> ExtractOptions:
    """Return the options of an extraction.

    Args:
        sampling: as ``extract.json`` keeps it.
        batch: clips a forward pass.
        workers: videos worked on at a time; None is extraction's own choice.
        threads: of FFmpeg.

    Raises:
        ModelError, ConfigError: a setting that can't be run.
    """
    check_sampling(sampling, "model.json")
    values = dict(sampling)
    values["fps"] = 0.0 if values.get("fps") == _NATIVE else float(values.get("fps", 0.0))
    if workers is not None:
        values["workers"] = workers
    return ExtractOptions(**values, batch=batch, threads=threads)


def encoder_of(model: LoadedModel, options: ExtractOptions, device: torch.device) -> ClipEncoder:
    """Return a model's encoder as extraction uses it."""
    return ClipEncoder(
        model.backbone,
        model.backbone_spec,
        device=device,
        size=options.size,
        short_side=options.short_side,
        crop=options.crop,
    )
