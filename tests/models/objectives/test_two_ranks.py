"""Two ranks with B samples each do what one rank with 2B does: loss, gradients, statistics, queue, key weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from pal_ds.models import convert_sync_batchnorm
from tests.support.rank_pool import RANKS, RankPool
from tests.support.tiny_models import rows, tiny_batch, tiny_objective

STEPS = 3
PER_RANK = 2


def train(rank: int | None, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """Three steps of plain SGD in fp64; ``rank`` None trains on the whole batch alone."""
    single = "num_classes" in options or options.get("objective", {}).get("name") == "aot"
    network = {"embedding_dim": 128} if single else QUEUE
    objective = tiny_objective(queue_size=7, **network, **options).double()
    ranks = 1 if rank is None else RANKS
    if rank is not None:
        objective = convert_sync_batchnorm(objective)
    parameters = {name: value for name, value in objective.named_parameters() if value.requires_grad}
    found: dict[str, np.ndarray] = {}
    for seed in range(STEPS):
        batch = tiny_batch(PER_RANK * RANKS, seed=seed, frames=4, side=16, dtype=torch.float64)
        if rank is not None:
            batch = rows(batch, rank * PER_RANK, (rank + 1) * PER_RANK)
        output = objective(batch)
        objective.zero_grad()
        output.loss.backward()
        loss, staged = output.loss.detach().clone(), output.staged
        if rank is not None:
            dist.all_reduce(loss)
            for parameter in parameters.values():
                dist.all_reduce(parameter.grad)
            if staged is not None:
                parts = [torch.empty_like(staged) for _ in range(RANKS)]
                dist.all_gather(parts, staged)
                staged = torch.cat(parts)
        found[f"loss{seed}"] = (loss / ranks).numpy()
        for name, parameter in parameters.items():
            parameter.grad /= ranks
            found[f"grad{seed}.{name}"] = parameter.grad.numpy().copy()
            with torch.no_grad():
                parameter.sub_(0.05 * parameter.grad)
        objective.after_step(staged)
    found |= {name: value.numpy().copy() for name, value in objective.state_dict().items()}
    return found


OPTIONS: list[dict[str, Any]] = [
    {},
    {"head_bn": True, "symmetric": True, "objective": {"dense_weight": 0.3}},
    {"objective": {"negatives": "both"}},
    {"objective": {"negatives": "batch"}},
    {"objective": {"name": "rspnet", "negatives": "both"}},
    {"objective": {"name": "videomoco", "queue_decay": 0.9}},
    {"objective": {"name": "aot", "dropout": 0.0}},
    {"objective": {"name": "bsp", "dropout": 0.0}, "num_classes": 3},
    {"objective": {"name": "tsp", "dropout": 0.0}, "num_classes": 3},
    {"objective": {"name": "vthcl", "negatives": "both"}},
]
NAMES = ("pal", "symmetric-dense-bn", "both", "batch", "rspnet", "videomoco", "aot", "bsp", "tsp", "vthcl")
#: Objectives without a queue and a key encoder take none of their options.
QUEUE = {"momentum": 0.9, "temperature": 1.0}


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_two_ranks_equal_one(rank_pool: RankPool, options: dict[str, Any]) -> None:
    ranks = rank_pool.run(train, options)
    alone = train(None, options)
    assert alone.keys() == ranks[0].keys()
    for name, expected in alone.items():
        np.testing.assert_array_equal(ranks[0][name], ranks[1][name], err_msg=name)
        np.testing.assert_allclose(ranks[0][name], expected, rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_comparison_can_fail() -> None:
    """Without joint statistics, halves of a batch do not give the whole batch's keys and loss."""
    objective = tiny_objective(temperature=1.0).double()
    batch = tiny_batch(4, dtype=torch.float64)
    with torch.no_grad():
        whole = objective(batch)
        halves = [objective(rows(batch, 0, 2)), objective(rows(batch, 2, 4))]
    assert abs(float(whole.loss - (halves[0].loss + halves[1].loss) / 2)) > 1e-6
    assert (whole.staged - torch.cat([half.staged for half in halves])).abs().max() > 1e-3
