"""Intervals over videos and seeds, and verdicts by the rules that were written before the runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.evidence.measures.bootstrap import Share, measure
from benchmarks.evidence.questions import NO, QUESTIONS, UNDECIDED, YES, Order, field_answers
from benchmarks.evidence.results import Measured, difference, estimate
from benchmarks.evidence.variants import VARIANTS

VIDEOS = 80


def row(variant: str, seed: int, value_v: np.ndarray, figure: str = "gtad_map") -> Measured:
    found = measure(Share(value_v, np.ones(VIDEOS)), VIDEOS)
    return Measured(
        variant=variant,
        seed=seed,
        values={figure: found["value"]},
        draws={figure: np.array(found["draws"])},
        hours=0.0,
        commits={},
        machine="",
        curve=(),
    )


def rows(gains: dict[str, float], seeds: int = 3, spread: float = 0.0) -> dict[str, list[Measured]]:
    """Every variant on the same hard and easy videos, ``gains`` above the base, seeds apart by ``spread``."""
    base_v = np.random.default_rng(0).random(VIDEOS)
    return {
        name: [row(name, seed, base_v + gain + spread * (seed - (seeds - 1) / 2)) for seed in range(seeds)]
        for name, gain in gains.items()
    }


def test_a_difference_is_paired_over_videos() -> None:
    found = rows({"pal": 0.02, "moco": 0.0})
    alone, gap = estimate(found["pal"], "gtad_map"), difference(found["pal"], found["moco"], "gtad_map")
    assert alone is not None and gap is not None
    assert alone.high - alone.low > 8, "videos differ much"
    assert gap.value == pytest.approx(2) and gap.high - gap.low < 0.01, "but not in what a variant gains"
    assert gap.sign == 1 and gap.seeds == 3


def test_seeds_that_differ_widen_the_interval_by_their_own_spread() -> None:
    found = rows({"pal": 0.02, "moco": 0.0}, spread=0.05)
    gap = difference(found["pal"], found["moco"], "gtad_map")
    assert gap is not None and gap.sign == 0
    # The mean of 3 seeds with a standard deviation of 5 points has an error of 2.9; of two variants, 4.1.
    assert (gap.high - gap.low) / (2 * 1.96) == pytest.approx(4.1, rel=0.15)


def test_two_variants_are_judged_by_the_sign_of_their_gap() -> None:
    question = Order(question="?", rising=("moco", "pal"), seeds=3)
    assert question.answer(rows({"moco": 0.0, "pal": 0.02})).verdict == YES
    assert question.answer(rows({"moco": 0.02, "pal": 0.0})).verdict == NO
    assert question.answer(rows({"moco": 0.0, "pal": 0.02}, spread=0.05)).verdict == UNDECIDED
    assert question.answer(rows({"moco": 0.0, "pal": 0.02}, seeds=2)).verdict == UNDECIDED, "too few seeds"
    assert question.answer(rows({"pal": 0.02})).verdict == UNDECIDED, "not run"


def test_an_order_of_several_needs_its_ends_apart_and_no_neighbours_the_wrong_way_round() -> None:
    question = Order(question="?", rising=("moco", "dense", "scale", "pal"))
    rising = {"moco": 0.0, "dense": 0.01, "scale": 0.02, "pal": 0.03}
    assert question.answer(rows(rising)).verdict == YES
    assert question.answer(rows(rising | {"scale": 0.005})).verdict == NO
    assert question.answer(rows(rising | {"pal": -0.01})).verdict == NO
    assert question.answer(rows(dict.fromkeys(rising, 0.0), spread=0.01)).verdict == UNDECIDED
    few = {name: found for name, found in rows(rising).items() if name != "dense"}
    assert question.answer(few).verdict == UNDECIDED, "a row of the table is missing"


def test_questions_name_rows_that_are_run() -> None:
    for question in QUESTIONS:
        assert set(question.rising) <= set(VARIANTS)
        for name in question.rising:
            assert question.seeds <= (2 if VARIANTS[name].few else 3)


def test_the_field_must_reach_its_ceiling_and_hide_place_and_colour() -> None:
    def field(one_hot: float, thumbnails: float) -> list[str]:
        values = {"one-hot": one_hot, "noise": 0.1, "thumbnails": thumbnails, "pose": 0.9}
        figures = ("gtad_map50", "anchor_free_map50", "auc_within", "tac_linear")
        parts = {
            name: [
                Measured(
                    variant=name,
                    seed=0,
                    values=dict.fromkeys(figures, 100 * value),
                    draws={figure: np.full(1000, 100 * value) for figure in figures},
                    hours=0.0,
                    commits={},
                    machine="",
                    curve=(),
                )
            ]
            for name, value in values.items()
        }
        return [answer.verdict for answer in field_answers(parts)]

    assert set(field(0.95, 0.12)) == {YES}
    assert field(0.85, 0.12)[:2] == [NO, NO]
    assert NO in field(0.95, 0.3)[2:]
    assert {answer.verdict for answer in field_answers({})} == {UNDECIDED}
