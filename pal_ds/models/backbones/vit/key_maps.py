"""Names of published files: of their authors' code, and of ``transformers``; each map is strict about what it knows.

The authors' names are turned into those of ``transformers`` as published on its hub; the library itself knows what
has been renamed since. What belongs to another part of a method (decoder, predictor, classifier) is named here and
left out; any other name that is left over is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from pal_ds.config.encoders import Encoder

State = dict[str, Tensor]
_WRAPPERS = ("module.", "model.", "backbone.", "encoder.")
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
#: Names that the library puts before those of the bare network, where a file is of a larger one.
_PREFIXES = {
    "videomae": ("videomae.",),
    "timesformer": ("timesformer.",),
    "vivit": ("vivit.",),
    "vjepa2": ("vjepa2.",),
    "dinov2": ("dinov2.",),
    "clip_vision_model": ("vision_model.", "clip.vision_model."),
}
#: Parts that are no part of the encoder, after the prefix.
_OTHERS = {
    "videomae": (
        "decoder.",
        "encoder_to_decoder.",
        "mask_token",
        "classifier.",
        "head.",
        "embeddings.mask_token",
    ),
    "timesformer": ("classifier.",),
    "vivit": ("classifier.", "pooler."),
    # Published encoders hold fixed positions of an earlier kind, which rotations took the place of.
    "vjepa2": ("predictor.", "pooler.", "classifier.", "pos_embed"),
    "dinov2": ("embeddings.mask_token", "mask_token", "classifier."),
    "clip_vision_model": (
        *("text_model.", "text_projection.", "visual_projection.", "logit_scale", "embeddings.position_ids"),
        "classifier.",
    ),
}


def library_names(encoder: Encoder, state: Mapping[str, Tensor]) -> State:
    """Return published tensors under the library's names, without those of other parts.

    Args:
        encoder: what they are for.
        state: tensors as published: by ``transformers``, VideoMAE v1 and v2, V-JEPA 2 or DINOv2.
    """
    found = dict(state)
    rename = _AUTHORS.get(encoder.kind)
    unwrapped = _unwrapped(found)
    if rename is not None and "patch_embed.proj.weight" in unwrapped:
        found = rename(unwrapped)
    found = {_without(name, _PREFIXES[encoder.kind]): value for name, value in found.items()}
    return {name: value for name, value in found.items() if not name.startswith(_OTHERS[encoder.kind])}


def _unwrapped(state: State) -> State:
    """Take wrappers off the names, as far as the patches' names have them."""
    while "patch_embed.proj.weight" not in state:
        wrapper = next(
            (w for w in _WRAPPERS if any(re.match(f"{re.escape(w)}.*patch_embed", n) for n in state)), None
        )
        if wrapper is None:
            break
        state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def _without(name: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _renamed(state: State, whole: Mapping[str, str], inside: Mapping[str, str], attention: str) -> State:
    """Rename tensors of the authors' code.

    Args:
        state: theirs.
        whole: beginnings of names outside of blocks.
        inside: beginnings of names inside a block, after its number.
        attention: where queries, keys and values of a block are.
    """
    found: State = {}
    for name, value in state.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            found[_replaced(name, whole)] = value
            continue
        number, rest = block.groups()
        before = f"encoder.layer.{number}."
        if rest.startswith("attn.qkv."):
            leaf = rest.removeprefix("attn.qkv.")
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{before}{attention}.{part}.{leaf}"] = third.clone()
        else:
            found[before + _replaced(rest, inside)] = value
    return found


def _replaced(name: str, beginnings: Mapping[str, str]) -> str:
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _of_videomae(state: State) -> State:
    """VideoMAE (Tong et al., 2022) and v2 (OpenGVLab/VideoMAEv2): positions are computed, keys have no bias."""
    return _renamed(
        state,
        {"patch_embed.proj.": "embeddings.patch_embeddings.projection.", "norm.": "layernorm."},
        {
            "norm1.": "layernorm_before.",
            "norm2.": "layernorm_after.",
            "attn.q_bias": "attention.attention.query.bias",
            "attn.v_bias": "attention.attention.value.bias",
            "attn.proj.": "attention.output.dense.",
            "mlp.fc1.": "intermediate.dense.",
            "mlp.fc2.": "output.dense.",
        },
        "attention.attention",
    )


def _of_vjepa2(state: State) -> State:
    """V-JEPA 2 (Assran et al., 2025; facebookresearch/vjepa2 at c2963a4): the encoder of its training checkpoints."""
    return _renamed(
        state,
        {"patch_embed.": "encoder.embeddings.patch_embeddings.", "norm.": "encoder.layernorm."},
        {"attn.proj.": "attention.proj."},
        "attention",
    )


def _of_dinov2(state: State) -> State:
    """DINOv2 (Oquab et al., 2023), without registers."""
    return _renamed(
        state,
        {
            "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
            "cls_token": "embeddings.cls_token",
            "pos_embed": "embeddings.position_embeddings",
            "mask_token": "embeddings.mask_token",
            "norm.": "layernorm.",
        },
        {
            "attn.proj.": "attention.output.dense.",
            "ls1.gamma": "layer_scale1.lambda1",
            "ls2.gamma": "layer_scale2.lambda1",
            "mlp.w12.": "mlp.weights_in.",
            "mlp.w3.": "mlp.weights_out.",
        },
        "attention.attention",
    )


_AUTHORS: dict[str, Callable[[State], State]] = {
    "videomae": _of_videomae,
    "vjepa2": _of_vjepa2,
    "dinov2": _of_dinov2,
}
