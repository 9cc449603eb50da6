"""Cross-entropy of pretext tasks: its definition, rows that do not count, and what a guess scores."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.models.ssl.classified import classified, guess


def test_loss_is_its_definition_and_uncounted_rows_are_zero() -> None:
    logits = torch.randn(3, 2, 4)
    target = torch.tensor([[0, -1], [3, 2], [-1, -1]])
    found = classified(logits, target)
    losses = [
        [
            0.0 if label < 0 else -math.log(float(logits[b, n].softmax(0)[label]))
            for n, label in enumerate(row)
        ]
        for b, row in enumerate(target.tolist())
    ]
    torch.testing.assert_close(found.loss_b, torch.tensor(losses).mean(dim=1))
    torch.testing.assert_close(found.loss, torch.tensor(losses).mean())
    hits = [
        [float(label >= 0 and int(logits[b, n].argmax()) == label) for n, label in enumerate(row)]
        for b, row in enumerate(target.tolist())
    ]
    assert torch.equal(found.hit_b, torch.tensor(hits).mean(dim=1))


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 5), seed=st.integers(0, 100))
def test_the_mean_of_equal_parts_is_the_whole(cut: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(-1, 3, (6, 2), generator=generator)
    whole = classified(logits, target).loss
    parts = [
        classified(logits[at], target[at]).loss * (at.stop - at.start)
        for at in (slice(0, cut), slice(cut, 6))
    ]
    torch.testing.assert_close(whole, (parts[0] + parts[1]) / 6)


def test_a_guess_knows_the_shares_alone() -> None:
    even = guess(torch.tensor([0.25, 0.25, 0.25, 0.25]))
    assert even["chance_loss"].item() == pytest.approx(math.log(4))
    assert even["chance_top1"].item() == 0.25
    one = guess(torch.tensor([1.0, 0.0]))
    assert (one["chance_loss"].item(), one["chance_top1"].item()) == (0.0, 1.0)
