"""Which parameters have which weight decay and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pal_ds.config.run import OptimizerConfig
from pal_ds.models import Objective

#: In a group: what its learning rate is multiplied with.
SCALE = "lr_scale"
_BACKBONE = "query_encoder.backbone."


def parameter_groups(
    objective: Objective, trained: Mapping[str, nn.Parameter], options: OptimizerConfig
) -> list[dict[str, Any]]:
    """Divide what is trained into groups of equal weight decay and rate, in the order of the names.

    Args:
        objective: whose parameters they are.
        trained: parameters by name.
        options: what is decayed, and how rates fall towards the input.

    Returns:
        Groups for a torch optimizer; one, where everything is alike.
    """
    decayed = {
        id(module.weight) for module in objective.modules() if isinstance(module, (nn.Linear, _ConvNd))
    }
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in trained.items():
        everywhere = options.decay == "all" or id(parameter) in decayed
        decay = options.weight_decay if everywhere else 0.0
        scale = _scale(objective, name, options.layer_decay)
        group = {"params": [], "weight_decay": decay, SCALE: scale}
        groups.setdefault((decay, scale), group)["params"].append(parameter)
    return list(groups.values())


def _scale(objective: Objective, name: str, layer_decay: float) -> float:
    """Layer-wise decay (Clark et al., ELECTRA, 2020): heads have the full rate, each block before one a share."""
    if layer_decay == 1 or not name.startswith(_BACKBONE):
        return 1.0
    backbone: Any = objective.backbone
    depth = len(backbone.stages()) + 1
    return float(layer_decay ** (depth - backbone.layer_of(name.removeprefix(_BACKBONE))))
