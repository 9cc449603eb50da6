"""Validation contrasts clips of the split with one another, whatever the training queue holds."""

from __future__ import annotations

import math

import pytest
import torch

from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ContrastTerm, ObjectiveOutput, ViewBatch
from pal_ds.training.validation_loss import SplitContrast

RANKS = Ranks(0, 1, 0, 1, torch.device("cpu"))
TEMPERATURE = 0.1


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def batch(places: torch.Tensor, recordings: torch.Tensor | None = None) -> ViewBatch:
    empty = torch.zeros(len(places), 0)
    return ViewBatch(query_bjcthw=empty, query_region_b2=empty, places_b=places, recordings_b=recordings)


def term(
    queries: torch.Tensor, keys: torch.Tensor, *, weight: float = 1.0, main: bool = True
) -> ContrastTerm:
    sample = torch.arange(len(queries))
    return ContrastTerm(
        query_md=queries, key_md=keys, sample_m=sample, weight=weight, temperature=TEMPERATURE, main=main
    )


def run(
    queries: torch.Tensor,
    keys: torch.Tensor,
    *,
    most: int = 10**9,
    recordings: torch.Tensor | None = None,
    size: int = 3,
    order: list[int] | None = None,
):
    contrast = SplitContrast(RANKS, most_negatives=most, recordings_apart=recordings is not None)
    parts = list(torch.arange(len(keys)).split(size))
    for number in order or range(len(parts)):
        places = parts[number]
        output = ObjectiveOutput(
            loss=torch.zeros(()), staged=keys[places], terms=(term(queries[places], keys[places]),)
        )
        contrast.add(output, batch(places, None if recordings is None else recordings[places]))
    figures = contrast.figures()
    assert figures is not None
    return figures


def by_hand(queries: torch.Tensor, keys: torch.Tensor, excluded: torch.Tensor) -> torch.Tensor:
    """InfoNCE with fp64 sums; the positive is never excluded."""
    logits = (queries.double() @ keys.double().T) / TEMPERATURE
    positive = logits.diagonal()
    rest = logits.masked_fill(excluded | torch.eye(len(keys), dtype=torch.bool), float("-inf"))
    return torch.logsumexp(torch.cat((positive[:, None], rest), dim=1), dim=1) - positive


@pytest.mark.parametrize("size", [1, 3, 11])
def test_every_clip_meets_all_others_once(size: int) -> None:
    queries, keys = unit(11, 16), unit(11, 16, seed=1)
    figures = run(queries, keys, size=size)
    expected = by_hand(queries, keys, torch.zeros(11, 11, dtype=torch.bool))
    torch.testing.assert_close(figures.loss_n, expected, rtol=1e-6, atol=1e-6)
    assert figures.negatives_n.tolist() == [10] * 11


def test_only_the_first_clips_of_the_split_serve_as_negatives() -> None:
    queries, keys = unit(9, 16), unit(9, 16, seed=1)
    figures = run(queries, keys, most=4, order=[2, 0, 1])
    assert figures.negatives_n.tolist() == [4, 4, 4, 3, 3, 3, 3, 4, 4]
    excluded = torch.arange(9).expand(9, 9) >= 4
    expected = by_hand(queries, keys, excluded)[[6, 7, 8, 0, 1, 2, 3, 4, 5]]
    torch.testing.assert_close(figures.loss_n, expected, rtol=1e-6, atol=1e-6)


def test_clips_of_one_recording_are_no_negatives_where_asked() -> None:
    queries, keys = unit(6, 16), unit(6, 16, seed=1)
    recordings = torch.tensor([7, 7, 7, 2, 2, 9])
    figures = run(queries, keys, recordings=recordings)
    assert figures.negatives_n.tolist() == [3, 3, 3, 4, 4, 5]
    expected = by_hand(queries, keys, recordings[:, None] == recordings)
    torch.testing.assert_close(figures.loss_n, expected, rtol=1e-6, atol=1e-6)


def test_features_that_say_nothing_score_a_blind_guess() -> None:
    same = unit(1, 16).expand(33, 16)
    figures = run(same, same)
    assert figures.loss_n.mean().item() == pytest.approx(math.log(1 + 32), abs=1e-6)
    assert figures.hit_n.sum() == 0, "a tie is no hit"


def test_terms_are_weighed_and_only_main_ones_count_as_hits() -> None:
    queries, keys = unit(5, 16), unit(5, 16, seed=1)
    places = torch.arange(5)
    contrast = SplitContrast(RANKS, most_negatives=100, recordings_apart=False)
    terms = (term(queries, keys), term(-keys, keys, weight=0.5, main=False))
    contrast.add(ObjectiveOutput(loss=torch.zeros(()), staged=keys, terms=terms), batch(places))
    figures = contrast.figures()
    assert figures is not None
    none = torch.zeros(5, 5, dtype=torch.bool)
    expected = by_hand(queries, keys, none) + 0.5 * by_hand(-keys, keys, none)
    torch.testing.assert_close(figures.loss_n, expected, rtol=1e-6, atol=1e-6)
    alone = run(queries, keys)
    torch.testing.assert_close(figures.hit_n, alone.hit_n)


def test_what_is_missing_is_told() -> None:
    keys = unit(3, 4)
    output = ObjectiveOutput(loss=torch.zeros(()), staged=keys, terms=(term(keys, keys),))
    without = ViewBatch(query_bjcthw=keys, query_region_b2=keys)
    with pytest.raises(ValueError, match="places in the split"):
        SplitContrast(RANKS, most_negatives=9, recordings_apart=False).add(output, without)
    with pytest.raises(ValueError, match="recordings"):
        SplitContrast(RANKS, most_negatives=9, recordings_apart=True).add(output, batch(torch.arange(3)))
