"""The moving average of the key encoder is exact, stays fp32 and leaves statistics alone."""

from __future__ import annotations

import math

import torch
from torch import nn

from pal_ds.models.ssl.momentum_encoder import MomentumUpdate, momentum_copy


def pair() -> tuple[nn.Module, nn.Module]:
    query = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    key = momentum_copy(query)
    for parameter in query.parameters():
        nn.init.normal_(parameter)
    return query, key


def test_copy_is_equal_apart_and_without_gradients() -> None:
    query = nn.Linear(2, 2)
    key = momentum_copy(query)
    assert not any(parameter.requires_grad for parameter in key.parameters())
    assert torch.equal(query.weight, key.weight)
    assert query.weight.data_ptr() != key.weight.data_ptr()


def test_average_follows_its_formula() -> None:
    query, key = pair()
    expected = [k.double() for k in key.parameters()]
    update = MomentumUpdate(0.99)
    for _ in range(10):
        update.update(key, query)
        expected = [0.99 * k + 0.01 * q.double() for k, q in zip(expected, query.parameters(), strict=True)]
    for k, e in zip(key.parameters(), expected, strict=True):
        assert k.dtype == torch.float32
        torch.testing.assert_close(k.double(), e, rtol=1e-6, atol=1e-7)


def test_average_moves_at_the_papers_momentum() -> None:
    """In bf16 99.6 % of the gap would be left after 2000 updates; exact is 0.999**2000."""
    query, key = nn.Linear(4, 4), nn.Linear(4, 4)
    gap = (query.weight - key.weight).abs().sum().item()
    update = MomentumUpdate(0.999)
    for _ in range(2000):
        update.update(key, query)
    left = (query.weight - key.weight).abs().sum().item()
    assert math.isclose(left / gap, 0.999**2000, rel_tol=1e-2)


def test_statistics_stay_the_key_encoders_own() -> None:
    query, key = pair()
    query[1].running_mean.fill_(5.0)
    MomentumUpdate(0.5).update(key, query)
    assert torch.equal(key[1].running_mean, torch.zeros(4))


def test_cosine_schedule_anneals_to_one_and_survives_a_restart() -> None:
    update = MomentumUpdate(0.9, steps=4)
    query, key = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    rates = []
    for step in range(6):
        if step == 2:
            fresh = MomentumUpdate(0.9, steps=4)
            fresh.load_state_dict(update.state_dict())
            update = fresh
        nn.init.ones_(query.weight)
        nn.init.zeros_(key.weight)
        update.update(key, query)
        rates.append(key.weight.item())
    expected = [0.1 * (math.cos(math.pi * min(step / 4, 1)) + 1) / 2 for step in range(6)]
    torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected))


def test_constant_momentum_keeps_no_state() -> None:
    assert not MomentumUpdate(0.9).state_dict()


def test_the_device_may_decide_whether_to_move() -> None:
    for steps in (0, 20):
        query, key = pair()
        twin = momentum_copy(key)
        update, other = MomentumUpdate(0.9, steps=steps), MomentumUpdate(0.9, steps=steps)
        before = [parameter.clone() for parameter in key.parameters()]
        update.update(key, query, torch.tensor(0.0))
        assert all(torch.equal(one, two) for one, two in zip(key.parameters(), before, strict=True))
        for _ in range(3):
            update.update(key, query, torch.tensor(1.0))
            other.update(twin, query)
        for one, two in zip(key.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)
        assert not steps or int(update.updates) == 3
