"""Every switch of the network and the loss changes what it names and nothing else: one table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pal_ds.models import ViewBatch
from tests.support.tiny_models import tiny_batch, tiny_objective

#: (settings of the model, of the objective, of the queue; parts of the state that may differ; whether the loss does)
SWITCHES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], set[str], bool]] = [
    ({"temporal_layers": 0}, {}, {}, {"temporal"}, True),
    ({"temporal_layers": 1}, {}, {}, {"temporal"}, True),
    ({"temporal_layers": 3}, {}, {}, {"temporal"}, True),
    ({"final_relu": False}, {}, {}, set(), True),
    ({"norm": "region"}, {}, {}, set(), True),
    ({"norm": "clip"}, {}, {}, set(), True),
    ({"temperature": 0.2}, {}, {}, set(), True),
    ({"symmetric": True}, {}, {}, set(), True),
    ({"momentum": 0.5}, {}, {}, set(), False),
    ({"momentum_steps": 10}, {}, {}, {"momentum"}, False),
    ({"channels_last": False}, {}, {}, set(), False),
    ({"projector_layers": 1}, {}, {}, {"projector"}, True),
    ({"projector_layers": 3}, {}, {}, {"projector"}, True),
    ({"projector_hidden": 24}, {}, {}, {"projector"}, True),
    ({"head_bn": True}, {}, {}, {"projector", "temporal"}, True),
    ({"bn_momentum": 0.5}, {}, {}, set(), False),
    ({"same_padding": False}, {}, {}, set(), True),
    ({}, {"dense_weight": 0.5}, {}, set(), True),
    ({}, {"negatives": "both"}, {}, set(), True),
    ({}, {"negatives": "batch"}, {}, {"queue"}, True),
    ({}, {}, {"queue_size": 10}, {"queue"}, True),
    ({}, {}, {"mask_unfilled": True}, set(), True),
]


def shapes(objective: torch.nn.Module) -> dict[str, dict[str, torch.Size]]:
    """Shapes of the state by part: backbone, projector, temporal (of both encoders), queue, momentum."""
    found: dict[str, dict[str, torch.Size]] = {}
    for name, value in objective.state_dict().items():
        words = name.split(".")
        part = words[1] if words[0].endswith("encoder") else words[0]
        found.setdefault(part, {})[name] = value.shape
    return found


def loss_with_base_weights(objective: Any, base: Any, batch: ViewBatch) -> float:
    """Loss of a fixed batch with all the state that fits taken from the base."""
    own = objective.state_dict()
    state = {
        name: value
        for name, value in base.state_dict().items()
        if name in own and own[name].shape == value.shape
    }
    objective.load_state_dict(state, strict=False)
    for layer in objective.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
    with torch.no_grad():
        return float(objective(batch).loss)


@pytest.mark.parametrize(
    ("model", "objective", "queue", "parts", "moves_loss"),
    SWITCHES,
    ids=[str({**one, **two, **three}) for one, two, three, *_ in SWITCHES],
)
def test_a_switch_changes_its_part_of_the_network(
    model: dict[str, Any], objective: dict[str, Any], queue: dict[str, Any], parts: set[str], moves_loss: bool
) -> None:
    # Without a final ReLU in the base the tiny network's vectors differ enough for every loss to tell.
    base_model = {"final_relu": False} if "final_relu" not in model else {}
    base = tiny_objective(**base_model)
    other = tiny_objective(objective=objective, **{**base_model, **model}, **queue)
    before, now = shapes(base), shapes(other)
    assert {part for part in before | now if before.get(part) != now.get(part)} == parts
    # Without padding, small frames run out before the last pooling.
    batch = tiny_batch(3, frames=4, side=16) if model.get("same_padding", True) else tiny_batch(3)
    losses = [loss_with_base_weights(each, base, batch) for each in (base, other)]
    assert (abs(losses[0] - losses[1]) > 1e-5) == moves_loss
