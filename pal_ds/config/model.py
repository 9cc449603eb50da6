"""What is trained: backbone and heads (``model``) and negatives (``queue``); the loss is in ``config/objective.py``.

The defaults are PAL to the letter (CVPR 2022, sections 3 and 4.1): Inception-I3D on 8 x 112 x 112 clips, a
projection head, two temporal convolutions with kernel 3 each followed by ReLU, L2 norm of the clip features,
average over the region, normalised again so that logits are cosines; queue 16384, temperature 0.07.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pal_ds.config.backbones import BACKBONES
from pal_ds.config.base import check, option
from pal_ds.config.encoder_checks import check_encoder_options
from pal_ds.config.encoders import POOLINGS, names_encoder, read_encoder

NORMS = ("clip_and_region", "region", "clip")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Backbone, projector, temporal head and momentum encoder.

    Raises:
        ConfigError: a value out of its range, or one that would have no effect.
    """

    FIXED: ClassVar[bool] = True

    backbone: str = option(
        "i3d",
        f"clip encoder: one of {', '.join(BACKBONES)}; the paper's is i3d, tsm_resnet8 is small and made for CPUs; "
        "or hf: and a local folder with the config.json and weights of an encoder of transformers, or that file "
        "alone for random weights (docs/encoders.md)",
    )
    encoder: str = option(
        "",
        "hf only: what the encoder's config.json says; filled in by the program, so that a run needs no folder",
    )
    pooling: str = option(
        "mean",
        f"hf only: how tokens become a feature: {', '.join(POOLINGS)} (means of the last four layers, side by side) "
        "or layer:K (the mean after block K, without the blocks behind it)",
    )
    drop_path: float = option(
        0.0,
        "hf only: share of clips whose last block is passed over in training; rises from 0 at the first block",
    )
    frozen_stages: int = option(
        0,
        "hf only: 1 keeps patches and positions as they are, N these and the first N - 1 blocks; 0 trains all",
    )
    lora_rank: int = option(
        0,
        "hf only: rank of low-rank adapters in every block; the encoder itself is then frozen, and the key encoder "
        "shares it; 0 is off",
    )
    lora_alpha: float = option(
        0.0, "hf only: scale of the adapters' product, divided by the rank; 0: the rank"
    )
    lora_layers: str = option("attention", "hf only: which linear layers have adapters: attention or all")
    width: float = option(
        1.0, "factor on every channel count of the backbone, above 0; 1 is the published size"
    )
    same_padding: bool = option(
        True, "i3d only: TensorFlow's SAME padding as in the published network; false pads symmetrically"
    )
    differences: bool = option(
        False,
        "give the backbone the differences of consecutive frames instead of the frames: what moves, without the "
        "scene it is in; for short runs on few scenes, which would learn the scenes first",
    )
    bn_momentum: float = option(
        0.1, "share of the newest batch in BatchNorm's running statistics (used in validation and export)"
    )
    embedding_dim: int = option(128, "size D of the vectors that are contrasted and queued")
    projector_layers: int = option(2, "linear layers of the projection head, 1 to 3, ReLU between them")
    projector_hidden: int = option(0, "hidden width of the projection head; 0: the backbone's feature_dim")
    head_bn: bool = option(False, "BatchNorm after each hidden linear layer and each temporal convolution")
    temporal_layers: int = option(
        2, "temporal convolutions (kernel 3) over the clip sequence, 0 to 3 (Table 4)"
    )
    final_relu: bool = option(
        True,
        "ReLU after the last temporal convolution too (the paper's text); nothing to act on with 0 layers",
    )
    norm: str = option(
        "clip_and_region",
        "where the L2 norm sits: clip_and_region (clips, average, again), region (average, then norm), "
        "clip (clips only, logits are then not cosines)",
    )
    momentum: float = option(0.999, "m of the key encoder's moving average, once per optimizer step")
    momentum_steps: int = option(
        0, "0: m is constant; otherwise m rises to 1 by a half cosine over this many optimizer steps"
    )
    temperature: float = option(0.07, "tau of InfoNCE (Eq. 7)")
    symmetric: bool = option(False, "contrast both ways round and average; twice the compute of a step")
    channels_last: bool = option(True, "run convolutions in channels-last memory format", fixed=False)
    compile: bool = option(
        False, "torch.compile the backbone as one graph; minutes for the first step", fixed=False
    )
    recompute_stages: int = option(
        0,
        "how many of the backbone's stages, from the first on, keep their input alone and are run again in the "
        "backward pass: less memory for a quarter more work at most, the same gradients; 0 keeps everything",
        fixed=False,
    )
    weights: str = option(
        "",
        "warm start: path or URL of backbone weights (.safetensors, .pt); 2D kernels (an ImageNet ResNet-50 for "
        "resnet3d50) are inflated; empty: random",
        fixed=False,
    )

    def __post_init__(self) -> None:
        BACKBONES.check_options(self.backbone, "model", self)
        if names_encoder(self.backbone):
            object.__setattr__(self, "encoder", read_encoder(self.backbone, self.encoder))
            check_encoder_options(self)
        check(0 < self.width <= 8, "model.width", self.width, "use a factor above 0 and at most 8")
        check(
            0 < self.bn_momentum <= 1, "model.bn_momentum", self.bn_momentum, "use a share above 0, at most 1"
        )
        check(self.embedding_dim >= 2, "model.embedding_dim", self.embedding_dim, "use at least 2")
        check(
            1 <= self.projector_layers <= 3, "model.projector_layers", self.projector_layers, "use 1, 2 or 3"
        )
        check(self.projector_hidden >= 0, "model.projector_hidden", self.projector_hidden, "use 0 or a width")
        check(
            self.projector_layers > 1 or self.projector_hidden == 0,
            "model.projector_hidden",
            self.projector_hidden,
            "has no effect with model.projector_layers=1; remove it",
        )
        check(
            not self.head_bn or self.projector_layers > 1 or self.temporal_layers > 0,
            "model.head_bn",
            self.head_bn,
            "has no effect without a hidden or temporal layer; remove it",
        )
        check(
            0 <= self.temporal_layers <= 3, "model.temporal_layers", self.temporal_layers, "use 0, 1, 2 or 3"
        )
        check(self.norm in NORMS, "model.norm", self.norm, f"use one of {', '.join(NORMS)}")
        check(0 <= self.momentum <= 1, "model.momentum", self.momentum, "use a value from 0 to 1")
        check(self.momentum_steps >= 0, "model.momentum_steps", self.momentum_steps, "use 0 or a step count")
        check(
            self.recompute_stages >= 0,
            "model.recompute_stages",
            self.recompute_stages,
            "use 0 or a stage count",
        )
        check(
            not (self.compile and self.recompute_stages),
            "model.recompute_stages",
            self.recompute_stages,
            "does not go with model.compile, which takes the backbone as one graph; set one of them to 0 or false",
        )
        check(self.temperature > 0, "model.temperature", self.temperature, "use a value above 0")

    def backbone_options(self) -> dict[str, Any]:
        """Options of ``build_backbone`` beyond name and width, needed to rebuild the exported network."""
        names = set(BACKBONES.choose(self.backbone).options) - {"drop_path", "frozen_stages"}
        options = {name: getattr(self, name) for name in sorted(names)}
        return options | ({"differences": True} if self.differences else {})


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """The first-in first-out memory of key vectors that serve as negatives.

    Raises:
        ConfigError: a value out of its range.
    """

    FIXED: ClassVar[bool] = True

    size: int = option(16384, "K, the number of negatives; any number at or above 1 works with any batch")
    mask_unfilled: bool = option(
        False, "leave out the random rows that hold no key yet; false keeps them as negatives, as MoCo does"
    )

    def __post_init__(self) -> None:
        check(self.size >= 1, "queue.size", self.size, "use at least 1")
