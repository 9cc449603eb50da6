"""Encoders of transformers small enough for a unit test, and published files made by names and shapes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pal_ds.config.encoders import Encoder
from pal_ds.models.backbones.vit.build import build_encoder
from pal_ds.models.backbones.vit.encoder import TransformerEncoder
from pal_ds.models.backbones.vit.library import build_network

_SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_IMAGE = {"image_size": 32, "patch_size": 16}

CONFIGS: dict[str, dict[str, Any]] = {
    "videomae": {**_SHAPE, **_IMAGE, "num_frames": 4, "intermediate_size": 64, "use_mean_pooling": False},
    "timesformer": {**_SHAPE, **_IMAGE, "num_frames": 4, "intermediate_size": 64},
    "vivit": {
        **_SHAPE,
        "image_size": 32,
        "num_frames": 4,
        "tubelet_size": [2, 16, 16],
        "intermediate_size": 64,
    },
    "vjepa2": {
        **_SHAPE,
        **{"crop_size": 32, "patch_size": 16, "frames_per_clip": 4, "tubelet_size": 2, "mlp_ratio": 2.0},
        **{"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 2},
    },
    "dinov2": {**_SHAPE, **_IMAGE, "mlp_ratio": 2},
    "clip_vision_model": {**_SHAPE, **_IMAGE, "intermediate_size": 64},
}
KINDS = tuple(CONFIGS)


def tiny_config(kind: str, **options: Any) -> dict[str, Any]:
    """Published config of a tiny encoder, with the labels that such files have."""
    return {
        "model_type": kind,
        "id2label": {"0": "a"},
        "auto_map": {"AutoModel": "evil.py"},
        **CONFIGS[kind],
        **options,
    }


def tiny_encoder(kind: str, **options: Any) -> Encoder:
    return Encoder({"model_type": kind, **CONFIGS[kind], **options}, (0.5,) * 3, (0.25,) * 3)


def tiny_transformer(
    kind: str, *, seed: int = 0, config: dict[str, Any] | None = None, **options: Any
) -> TransformerEncoder:
    torch.manual_seed(seed)
    return build_encoder(encoder=tiny_encoder(kind, **(config or {})).text(), **options)


def write_folder(folder: Path, kind: str, state: dict[str, Tensor] | None = None, **options: Any) -> str:
    """Write a folder as published; return the value of ``model.backbone``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(tiny_config(kind, **options)))
    if state is not None:
        save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    return f"hf:{folder}"


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def hub_state(kind: str, *, seed: int = 1, **options: Any) -> dict[str, Tensor]:
    """Tensors under the names that files on the hub have, with those of the parts around the encoder."""
    torch.manual_seed(seed)
    network = build_network(tiny_encoder(kind, **options))
    state = {name: torch.randn_like(value) for name, value in network.state_dict().items()}
    for old, new in _HUB_NAMES[kind]:
        state = {re.sub(old, new, name): value for name, value in state.items()}
    return state | drawn(_AROUND[kind])


_OLD_ATTENTION = [
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
]
_HUB_NAMES: dict[str, list[tuple[str, str]]] = {
    "videomae": [
        (r"query\.bias", "q_bias"),
        (r"value\.bias", "v_bias"),
        ("^", "videomae."),
    ],
    "timesformer": [("^", "timesformer.")],
    "vivit": [
        *_OLD_ATTENTION,
        (r"^layers\.", "encoder.layer."),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        ("^", "vivit."),
    ],
    "vjepa2": [],
    "dinov2": _OLD_ATTENTION,
    "clip_vision_model": [("^", "vision_model.")],
}
_AROUND: dict[str, dict[str, tuple[int, ...]]] = {
    "videomae": {
        "mask_token": (1, 1, 16),
        "encoder_to_decoder.weight": (16, 32),
        "decoder.norm.weight": (16,),
        "decoder.decoder_layers.0.layernorm_before.weight": (16,),
    },
    "timesformer": {"classifier.weight": (5, 32), "classifier.bias": (5,)},
    "vivit": {"classifier.weight": (5, 32), "vivit.pooler.dense.weight": (32, 32)},
    "vjepa2": {"predictor.proj.weight": (32, 16)},
    "dinov2": {"embeddings.mask_token": (1, 32)},
    "clip_vision_model": {
        "text_model.final_layer_norm.weight": (8,),
        "logit_scale": (),
        "visual_projection.weight": (8, 32),
        "text_projection.weight": (8, 8),
        "vision_model.embeddings.position_ids": (1, 5),
    },
}


def _blocks(inside: dict[str, tuple[int, ...]], layers: int = 2) -> dict[str, tuple[int, ...]]:
    return {f"blocks.{number}.{name}": shape for number in range(layers) for name, shape in inside.items()}


_NORMS = {f"norm{number}.{leaf}": (32,) for number in (1, 2) for leaf in ("weight", "bias")}
_MLP = {"mlp.fc1.weight": (64, 32), "mlp.fc1.bias": (64,), "mlp.fc2.weight": (32, 64), "mlp.fc2.bias": (32,)}
_PROJ = {"attn.proj.weight": (32, 32), "attn.proj.bias": (32,)}


def videomae_v2_state(*, finetuned: bool = True) -> dict[str, Tensor]:
    """Names and shapes of VideoMAE v2's ``.pth``: fine-tuned (``module``) or pre-trained (``model``)."""
    patches = {"patch_embed.proj.weight": (32, 3, 2, 16, 16), "patch_embed.proj.bias": (32,)}
    attention = {"attn.q_bias": (32,), "attn.v_bias": (32,), "attn.qkv.weight": (96, 32)}
    shapes = patches | _blocks({**_NORMS, **attention, **_PROJ, **_MLP})
    if finetuned:
        head = {"fc_norm.weight": (32,), "fc_norm.bias": (32,), "head.weight": (7, 32), "head.bias": (7,)}
        return drawn(shapes | head)
    shapes |= {"norm.weight": (32,), "norm.bias": (32,)}
    encoder = {f"encoder.{name}": shape for name, shape in shapes.items()}
    around = {
        **{"encoder_to_decoder.weight": (16, 32), "mask_token": (1, 1, 16), "decoder.norm.weight": (16,)},
        **{"decoder.blocks.0.attn.qkv.weight": (48, 16), "decoder.head.weight": (8, 16)},
    }
    return drawn(encoder | around)


def vjepa2_file() -> dict[str, Any]:
    """Content of V-JEPA 2's ``.pt`` by names and shapes: encoder, target encoder, predictor, optimizer, counters."""
    patches = {"patch_embed.proj.weight": (32, 3, 2, 16, 16), "patch_embed.proj.bias": (32,)}
    attention = {"attn.qkv.weight": (96, 32), "attn.qkv.bias": (96,)}
    shapes = patches | _blocks({**_NORMS, **attention, **_PROJ, **_MLP})
    # The fixed positions are in the files, though its code has used rotations since.
    shapes |= {"norm.weight": (32,), "norm.bias": (32,), "pos_embed": (1, 8, 32)}
    state = {f"module.backbone.{name}": value for name, value in drawn(shapes).items()}
    return {
        "encoder": state,
        "target_encoder": {name: value + 1 for name, value in state.items()},
        "predictor": {"module.backbone.predictor_proj.weight": torch.zeros(2, 2)},
        "opt": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
        "loss": 0.5,
        "batch_size": 2,
    }


def dinov2_state() -> dict[str, Tensor]:
    """Names and shapes of DINOv2's ``.pth``."""
    patches = {"patch_embed.proj.weight": (32, 3, 16, 16), "patch_embed.proj.bias": (32,)}
    tokens = {"cls_token": (1, 1, 32), "mask_token": (1, 32), "pos_embed": (1, 5, 32)}
    attention = {"attn.qkv.weight": (96, 32), "attn.qkv.bias": (96,), "ls1.gamma": (32,), "ls2.gamma": (32,)}
    shapes = patches | tokens | _blocks({**_NORMS, **attention, **_PROJ, **_MLP})
    return drawn(shapes | {"norm.weight": (32,), "norm.bias": (32,)})


#: Networks of published files, as far as their config.json says other than the library's defaults.
PUBLISHED: dict[str, dict[str, Any]] = {
    "videomae-base": {"model_type": "videomae", "use_mean_pooling": False},
    "vjepa2-vitl-fpc64-256": {"model_type": "vjepa2", "hidden_size": 1024, "num_hidden_layers": 24},
    "dinov2-small": {
        **{"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6},
        **{"image_size": 518, "patch_size": 14, "mlp_ratio": 4},
    },
}


def published_folder(folder: Path, name: str, **options: Any) -> str:
    """Write the config of a published encoder; return the value of ``model.backbone``."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "config.json").write_text(json.dumps(PUBLISHED[name] | options))
    return f"hf:{folder / name}"
