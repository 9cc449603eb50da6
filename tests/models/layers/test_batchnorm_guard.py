"""A skipped step leaves no trace in BatchNorm."""

from __future__ import annotations

import torch

from pal_ds.models import BatchNormGuard
from tests.support.tiny_models import tiny_batch, tiny_objective


def test_a_poisoned_forward_is_undone_exactly() -> None:
    objective = tiny_objective()
    objective(tiny_batch(2))
    guard = BatchNormGuard(objective)
    guard.save()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    batch = tiny_batch(2, seed=1)
    batch.query_bjcthw[0, 0, 0, 0, 0, 0] = float("nan")
    batch.key_bjcthw[0] = float("inf")
    assert not objective(batch).loss.isfinite()
    assert any(not value.isfinite().all() for value in objective.state_dict().values())
    guard.restore()
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_saving_again_forgets_the_older_state() -> None:
    norm = torch.nn.BatchNorm1d(2)
    guard = BatchNormGuard(norm)
    norm.running_mean.fill_(3.0)
    guard.save()
    norm.running_mean.fill_(9.0)
    guard.restore()
    assert norm.running_mean.tolist() == [3.0, 3.0]


def test_a_module_without_batch_norm_is_fine() -> None:
    guard = BatchNormGuard(torch.nn.Linear(2, 2))
    guard.save()
    guard.restore()


def test_the_device_may_decide_whether_to_restore() -> None:
    objective = tiny_objective()
    guard = BatchNormGuard(objective)
    guard.save()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    batch = tiny_batch(2, seed=1)
    objective(batch)
    after = {name: value.clone() for name, value in objective.state_dict().items()}
    guard.restore(where=torch.tensor(0.0))
    assert all(torch.equal(value, after[name]) for name, value in objective.state_dict().items())
    batch.query_bjcthw.fill_(float("nan"))
    objective(batch)
    guard.restore(where=torch.tensor(1.0))
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_joined_statistics_are_the_layers_own() -> None:
    layers = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(70, momentum=None))
    layers[1].running_var.fill_(2.0)
    guard = BatchNormGuard(layers)
    assert layers[1].running_var.eq(2.0).all()
    layers.load_state_dict({name: value + 1 for name, value in layers.state_dict().items()})
    assert guard.finite()
    layers[0].running_mean[1] = float("inf")
    assert not guard.finite()
    guard.restore()
    assert [int(layer.num_batches_tracked) for layer in layers] == [0, 0]
    assert layers[1].running_var.eq(2.0).all()
