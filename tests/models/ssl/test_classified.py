"""Cross-entropy of pretext tasks: its definition, rows that do not count, and what a guess scores."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.models.ssl.classified import classified


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


def test_a_guess_finds_every_class_equally_likely_where_a_row_counts() -> None:
    target = torch.tensor([[0, -1], [3, 2], [-1, -1]])
    found = classified(torch.zeros(3, 2, 4), target)
    torch.testing.assert_close(found.guess, torch.tensor(math.log(4) / 2))
    # Which is what a network without any opinion pays, smoothed or not.
    torch.testing.assert_close(found.guess, found.loss)
    smoothed = classified(torch.zeros(3, 2, 4), target, label_smoothing=0.2)
    torch.testing.assert_close(smoothed.guess, smoothed.loss)
    assert found.classes == 4
