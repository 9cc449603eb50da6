"""Tensors for an encoder: of its own files, or as published, strictly."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pal_ds.models.backbones.vit.encoder import TransformerEncoder
from pal_ds.models.backbones.vit.key_maps import library_names
from pal_ds.models.backbones.vit.library import load_network
from pal_ds.models.backbones.vit.lora import base_name, is_adapter
from pal_ds.models.backbones.vit.parts import take_apart

_POOLED_NORM = "fc_norm."
#: Of the library's network, what an encoder here has no use for and published files need not have.
_SPARE = ("predictor.", "pooler.")


def tensors_for(
    backbone: TransformerEncoder, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Return tensors under the backbone's own names, and what does not fit.

    Args:
        backbone: what they are for.
        state: its own tensors (a run, an exported file), or a published file's.

    Returns:
        Tensors by name of ``backbone.state_dict()``, and names that are ``missing``, ``unknown`` or ``of another
        shape``. Adapters and the attentive pooling may be absent: they start as they are.
    """
    own = backbone.state_dict()
    if any(name.startswith("stem.") for name in state):
        given, problems = dict(state), dict[str, list[str]]()
    else:
        given, problems = _published(backbone, state)
    given = {base_name(name, set(own)): value for name, value in given.items()}
    missing = [
        name for name in own if name not in given and not is_adapter(name) and not name.startswith("pool.")
    ]
    reshaped = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    found = {
        "missing": problems.get("missing") or missing,
        "unknown": [*problems.get("unknown", []), *(name for name in given if name not in own)],
        "of another shape": problems.get("of another shape") or reshaped,
    }
    return given, found


def _published(
    backbone: TransformerEncoder, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    renamed = library_names(backbone.encoder, state)
    norm = {
        name.removeprefix(_POOLED_NORM): renamed.pop(name)
        for name in [*renamed]
        if name.startswith(_POOLED_NORM)
    }
    network, problems = load_network(backbone.encoder, renamed)
    problems["missing"] = [name for name in problems["missing"] if not name.startswith(_SPARE)]
    parts = take_apart(network, backbone.encoder)
    if parts.pooled_norm:
        # Only a network made for mean pooling has it; its config says so (use_mean_pooling).
        parts.norm.load_state_dict(norm, strict=False)
        problems["missing"] += [f"{_POOLED_NORM}{name}" for name in ("weight", "bias") if name not in norm]
    else:
        problems["unknown"] += [f"{_POOLED_NORM}{name}" for name in norm]
    plain = TransformerEncoder(backbone.encoder, parts, "mean")
    layers = len(backbone.blocks)
    kept = {
        name: value
        for name, value in plain.state_dict().items()
        if not name.startswith("blocks.") or plain.layer_of(name) <= layers
    }
    return kept, problems
