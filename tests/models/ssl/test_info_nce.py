"""InfoNCE: value, gradient, masks, precision."""

from __future__ import annotations

import math

import pytest
import torch

from pal_ds.models.layers.numerics import unit
from pal_ds.models.ssl.info_nce import info_nce


def test_uninformative_queue_costs_the_log_of_its_size() -> None:
    queue_size = 16384
    query, key, negatives = (
        torch.eye(8)[:1],
        torch.eye(8)[1:2],
        torch.eye(8)[2:].repeat(queue_size, 1)[:queue_size],
    )
    result = info_nce(query, key, negatives, temperature=0.07)
    assert result.loss.item() == pytest.approx(math.log(1 + queue_size), rel=1e-6)
    assert result.loss.item() == pytest.approx(9.704, abs=1e-3)


def test_value_follows_equation_7() -> None:
    query, key, negatives = (unit(torch.randn(n, 6, dtype=torch.float64)) for n in (3, 3, 5))
    expected = 0.0
    for row in range(3):
        positive = math.exp(float(query[row] @ key[row]) / 0.2)
        rest = sum(math.exp(float(query[row] @ other) / 0.2) for other in negatives)
        expected -= math.log(positive / (positive + rest)) / 3
    assert info_nce(query, key, negatives, temperature=0.2).loss.item() == pytest.approx(expected, rel=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    query = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    key, negatives = (unit(torch.randn(n, 4, dtype=torch.float64)) for n in (3, 5))
    excluded = torch.tensor([False, True, False, False, True])

    def loss(value: torch.Tensor) -> torch.Tensor:
        return info_nce(unit(value), key, negatives, temperature=0.3, excluded=excluded).loss

    assert torch.autograd.gradcheck(loss, (query,))


def test_excluded_negatives_do_not_count() -> None:
    query, key, negatives = (unit(torch.randn(n, 6)) for n in (2, 2, 5))
    excluded = torch.tensor([False, False, False, True, True])
    masked = info_nce(query, key, negatives, temperature=0.2, excluded=excluded)
    shorter = info_nce(query, key, negatives[:3], temperature=0.2)
    torch.testing.assert_close(masked.loss, shorter.loss)
    for name, value in shorter.metrics.items():
        torch.testing.assert_close(masked.metrics[name], value)


def test_nothing_to_contrast_costs_nothing_and_moves_nothing() -> None:
    query = unit(torch.randn(2, 6)).requires_grad_()
    key, negatives = unit(torch.randn(2, 6)), unit(torch.randn(5, 6))
    result = info_nce(query, key, negatives, temperature=0.2, excluded=torch.ones(5, dtype=torch.bool))
    result.loss.backward()
    assert result.loss.item() == 0.0
    assert query.grad is not None
    assert torch.equal(query.grad, torch.zeros_like(query))
    assert all(value.isfinite() for value in result.metrics.values())


def test_metrics_are_similarities_and_strict_top1() -> None:
    axes = torch.eye(3)
    result = info_nce(axes[:2], torch.stack((axes[0], axes[2])), axes[1:2], temperature=1.0)
    assert result.metrics["positive_similarity"].item() == 0.5
    assert result.metrics["negative_similarity"].item() == 0.5
    assert result.metrics["top1"].item() == 0.5
    tie = info_nce(axes[:1], axes[:1], axes[:1], temperature=1.0)
    assert tie.metrics["top1"].item() == 0.0


def test_autocast_does_not_reach_the_logits() -> None:
    query, key, negatives = (unit(torch.randn(n, 64)) for n in (4, 4, 100))
    plain = info_nce(query, key, negatives, temperature=0.07).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = info_nce(query, key, negatives, temperature=0.07).loss
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)
