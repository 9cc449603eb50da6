"""What is trained: backbone and heads (``model``), negatives (``queue``) and the loss (``objective``).

The defaults are PAL to the letter (CVPR 2022, sections 3 and 4.1): Inception-I3D on 8 x 112 x 112 clips, a
projection head, two temporal convolutions with kernel 3 each followed by ReLU, L2 norm of the clip features,
average over the region, normalised again so that logits are cosines; queue 16384, temperature 0.07.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pal_ds.config.base import ConfigError, check, option

BACKBONES = ("i3d", "resnet3d50", "r2plus1d18", "s3d", "tsm_resnet50")
NORMS = ("clip_and_region", "region", "clip")
OBJECTIVES = ("pal", "moco", "supervised")
NEGATIVES = ("queue", "batch", "both")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Backbone, projector, temporal head and momentum encoder.

    Raises:
        ConfigError: a value out of its range, or one that would have no effect.
    """

    backbone: str = option("i3d", f"clip encoder: one of {', '.join(BACKBONES)}; the paper's is i3d")
    width: float = option(
        1.0, "factor on every channel count of the backbone, above 0; 1 is the published size"
    )
    same_padding: bool = option(
        True, "i3d only: TensorFlow's SAME padding as in the published network; false pads symmetrically"
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
    channels_last: bool = option(True, "run convolutions in channels-last memory format")
    compile: bool = option(False, "torch.compile the backbone as one graph; one rank only, slow first step")
    weights: str = option(
        "", "warm start: path or URL of backbone weights (.safetensors, .pt); empty: random"
    )

    def __post_init__(self) -> None:
        check(
            self.backbone in BACKBONES, "model.backbone", self.backbone, f"use one of {', '.join(BACKBONES)}"
        )
        check(0 < self.width <= 8, "model.width", self.width, "use a factor above 0 and at most 8")
        check(
            self.same_padding or self.backbone == "i3d",
            "model.same_padding",
            self.same_padding,
            f"has no effect with model.backbone={self.backbone}; remove it",
        )
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
        check(self.temperature > 0, "model.temperature", self.temperature, "use a value above 0")

    def backbone_options(self) -> dict[str, Any]:
        """Options of ``build_backbone`` beyond name and width, needed to rebuild the exported network."""
        return {"same_padding": self.same_padding} if self.backbone == "i3d" else {}


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """The first-in first-out memory of key vectors that serve as negatives.

    Raises:
        ConfigError: a value out of its range.
    """

    size: int = option(16384, "K, the number of negatives; any number at or above 1 works with any batch")
    mask_unfilled: bool = option(
        False, "leave out the random rows that hold no key yet; false keeps them as negatives, as MoCo does"
    )

    def __post_init__(self) -> None:
        check(self.size >= 1, "queue.size", self.size, "use at least 1")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Which loss trains the backbone.

    Raises:
        ConfigError: a value out of its range.
    """

    name: str = option(
        "pal",
        "pal (region contrast, Eq. 7), moco (MoCo-v2 on the whole clip sequence, Table 3 row 0) or "
        "supervised (action classification, needs a labelled shard set)",
    )
    negatives: str = option(
        "queue", "queue, batch (keys of the other samples of the global micro-batch, no queue) or both"
    )
    dense_weight: float = option(
        0.0,
        "pal: weight of a clip-level term that contrasts clips at equal relative positions of the regions",
    )
    dropout: float = option(0.5, "supervised: dropout before the classifier")
    label_smoothing: float = option(0.0, "supervised: label smoothing of the cross-entropy")

    def __post_init__(self) -> None:
        check(self.name in OBJECTIVES, "objective.name", self.name, f"use one of {', '.join(OBJECTIVES)}")
        check(
            self.negatives in NEGATIVES,
            "objective.negatives",
            self.negatives,
            f"use one of {', '.join(NEGATIVES)}",
        )
        check(self.dense_weight >= 0, "objective.dense_weight", self.dense_weight, "use 0 or more")
        check(0 <= self.dropout < 1, "objective.dropout", self.dropout, "use a share from 0 to below 1")
        check(
            0 <= self.label_smoothing < 1,
            "objective.label_smoothing",
            self.label_smoothing,
            "use 0 to below 1",
        )


_SUPERVISED_ONLY = ("dropout", "label_smoothing")
_CONTRASTIVE_ONLY = (
    "embedding_dim",
    "projector_layers",
    "projector_hidden",
    "head_bn",
    "temporal_layers",
    "final_relu",
    "norm",
    "momentum",
    "momentum_steps",
    "temperature",
    "symmetric",
)


def check_objective(objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig) -> None:
    """Refuse settings that the chosen objective would ignore.

    An option counts as set when it differs from its default. ``queue.size`` is exempt, since every
    pre-training configuration names it.

    Raises:
        ConfigError: naming the first option without effect.
    """
    if objective.name == "supervised":
        _refuse_set("objective", objective, ("negatives", "dense_weight"), objective.name)
        _refuse_set("model", model, _CONTRASTIVE_ONLY, objective.name)
        _refuse_set("queue", queue, ("mask_unfilled",), objective.name)
        return
    _refuse_set("objective", objective, _SUPERVISED_ONLY, objective.name)
    if objective.name == "moco":
        _refuse_set("objective", objective, ("dense_weight",), objective.name)
        check(
            model.temporal_layers in {0, 2},
            "model.temporal_layers",
            model.temporal_layers,
            "moco has no temporal head; remove it",
        )
    if objective.negatives == "batch" and queue.mask_unfilled:
        raise ConfigError(
            "queue.mask_unfilled", True, "has no effect with objective.negatives=batch; remove it"
        )


def _refuse_set(section: str, values: Any, names: tuple[str, ...], objective: str) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(values)}
    for name in names:
        value = getattr(values, name)
        fix = f"has no effect with objective.name={objective}; remove it"
        check(value == defaults[name], f"{section}.{name}", value, fix)
