"""Warm start: published or exported backbone weights, strict about keys and shapes.

This module reads bytes only; fetching them from a path or URL is the caller's part.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from pal_ds.models.backbones.vit.encoder import TransformerEncoder
from pal_ds.models.backbones.vit.published import tensors_for

OBJECTIVE_PREFIX = "query_encoder.backbone."
WRAPPER_PREFIXES = ("module.", "base_model.", "backbone.")
CLASSIFIER_PREFIXES = ("logits.", "fc.", "new_fc.", "classifier.")
SHOWN_KEYS = 5
SHOWN_LETTERS = 300


class WeightsError(ValueError):
    """Weights that are unreadable or do not fit the backbone."""


def read_weights(data: bytes, *, source: str) -> dict[str, Tensor]:
    """Parse a weights file.

    Args:
        data: content of a ``.safetensors`` file or of a PyTorch file that holds tensors and plain values only; the
            words of a command line (``argparse.Namespace``), which many training codes save beside them, are plain.
        source: name for error messages.

    Returns:
        Tensors on the CPU by name; the inner mapping where the file wraps it in ``state_dict``, ``model``, ``module``
        (VideoMAE v2) or ``encoder`` (V-JEPA 2).

    Raises:
        WeightsError: neither format, or a PyTorch file with anything but plain data in it.
    """
    try:
        if data[8:9] == b"{":
            return dict(load_safetensors(data))
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in whatever way their damage leads the parsers to
        why = " ".join(str(error).split())[:SHOWN_LETTERS]
        raise WeightsError(f"{source}: not a .safetensors or tensors-only PyTorch file ({why})") from error
    for wrapper in ("state_dict", "model", "module", "encoder"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{source}: holds no mapping of names to tensors")
    return dict(state)


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Backbone tensors under plain keys.

    Accepts a bare backbone, a run's ``model.safetensors``, and published files with a wrapper's prefix, TSM's
    ``.net.`` infix or a classifier, which is dropped.
    """
    of_query = _of_query(state)
    if of_query is not state:
        return dict(of_query)
    for prefix in WRAPPER_PREFIXES:
        if any(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return {
        name.replace(".net.", "."): value
        for name, value in state.items()
        if not name.startswith(CLASSIFIER_PREFIXES)
    }


def _of_query(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The query backbone's tensors of a run under plain names; other files as they are."""
    found = {
        name.removeprefix(OBJECTIVE_PREFIX): value
        for name, value in state.items()
        if name.startswith(OBJECTIVE_PREFIX)
    }
    return found or state


def inflated(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Give 2D convolutions of an image network a time axis, as I3D did (Carreira and Zisserman, 2017).

    A kernel [O, I, h, w] that a backbone wants as [O, I, t, h, w] is repeated t times and divided by t, so that a
    still video gives what the image gave (away from the ends of a clip, which are padded with zeros).

    Args:
        state: tensors by name, e.g. torchvision's ResNet-50, whose names ``resnet3d50`` shares.
        shapes: what the backbone wants.
    """
    found = dict(state)
    for name, value in state.items():
        shape = shapes.get(name)
        if shape is not None and value.ndim == 4 and len(shape) == 5:
            found[name] = value.unsqueeze(2).repeat(1, 1, shape[2], 1, 1) / shape[2]
    return found


@torch.no_grad()
def load_backbone_weights(backbone: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights into a backbone; nothing changes unless everything fits.

    BatchNorm's batch counters may be absent, as in files older than they are; 2D kernels are inflated.

    Args:
        backbone: a module of ``build_backbone``.
        state: tensors by name, see :func:`backbone_state` for what is accepted; for an encoder of ``transformers``
            its own names, or those of published files (``backbones/vit/key_maps.py``).
        source: name for error messages.

    Raises:
        WeightsError: missing or unknown keys, or other shapes.
    """
    if isinstance(backbone, TransformerEncoder):
        given, problems = tensors_for(backbone, _of_query(state))
        _load(backbone, given, problems, source)
        return
    own = backbone.state_dict()
    given = inflated(backbone_state(state), {name: value.shape for name, value in own.items()})
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in own]
    reshaped = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    _load(backbone, given, {"missing": missing, "unknown": unknown, "of another shape": reshaped}, source)


def _load(
    backbone: nn.Module, given: Mapping[str, Tensor], problems: Mapping[str, list[str]], source: str
) -> None:
    found = [f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names]
    if found:
        raise WeightsError(f"{source}: does not fit {type(backbone).__name__}: {'; '.join(found)}")
    backbone.load_state_dict({**backbone.state_dict(), **given}, strict=True)


def _some(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(names[:SHOWN_KEYS]) + more
