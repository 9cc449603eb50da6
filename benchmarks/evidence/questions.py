"""Questions with rules that were written before the runs; the README states them in words.

A gap counts only if its 95 % interval (paired bootstrap over videos, and seeds) excludes zero. ``yes``: it lies
above; ``no``: below; ``undecided``: zero is in it, or a side has fewer seeds than the rule asks for, or none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.evidence.results import Estimate, Measured, difference, estimate

YES, NO, UNDECIDED = "yes", "no", "undecided"
#: Localization is judged by this figure alone; the others stand beside it.
PRIMARY = "gtad_map"
#: Thumbnails may be better than noise by so much before the field asks for place or colour, in points. Not in
#: classification: a thumbnail of a trimmed clip shows its actor's posture. What the place tells of the class is asked
#: of the scenes without their actor (``place.py``).
PLACE_TOLERANCE = {"auc_within": 8.0, "gtad_map50": 5.0}
CEILING = 90.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A question, what was found, and the verdict by its rule.

    Attributes:
        question: for people.
        verdict: yes, no or undecided.
        gaps: name of each comparison and its estimate in points; None where it has not been run.
        figure: by which it is judged.
    """

    question: str
    verdict: str
    gaps: tuple[tuple[str, Estimate | None], ...]
    figure: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """Variants that should rise in this order, by a figure; two variants are a plain comparison.

    Attributes:
        question: for people.
        rising: names of variants, lowest first.
        figure: by which they are judged.
        seeds: that each variant needs.
    """

    question: str
    rising: tuple[str, ...]
    figure: str = PRIMARY
    seeds: int = 2

    def answer(self, rows: Mapping[str, Sequence[Measured]]) -> Answer:
        """Judge by the rule.

        Two variants: by the sign of their gap. More: ``yes`` if last above first is a gap that counts and no
        neighbours are the wrong way round by a gap that counts; ``no`` if some are, or last is below first by one.
        """
        pairs = list(zip(self.rising[1:], self.rising, strict=False))
        if len(self.rising) > 2:
            pairs.append((self.rising[-1], self.rising[0]))
        gaps = tuple(
            (f"{above} - {below}", difference(rows.get(above, ()), rows.get(below, ()), self.figure))
            for above, below in pairs
        )
        return Answer(question=self.question, verdict=self._verdict(gaps), gaps=gaps, figure=self.figure)

    def _verdict(self, gaps: Sequence[tuple[str, Estimate | None]]) -> str:
        known = [gap for _, gap in gaps if gap is not None and gap.seeds >= self.seeds]
        if any(gap.sign < 0 for gap in known):
            return NO
        return YES if len(known) == len(gaps) and known[-1].sign > 0 else UNDECIDED


QUESTIONS = (
    Order(question="Does PAL beat the untrained network?", rising=("random", "pal"), seeds=3),
    Order(question="Does PAL beat MoCo v2 on localization (paper: +3.1)?", rising=("moco", "pal"), seeds=3),
    Order(
        question="Does PAL beat TAC on localization (paper: +0.3 here, +0.9 on average)?",
        rising=("tac", "pal"),
        seeds=3,
    ),
    Order(
        question="Are the rows of Table 3 in order (baseline, dense, scale, same, different background)?",
        rising=("moco", "dense", "scale", "same", "pal"),
    ),
    Order(
        question="Table 4: are two temporal layers better than none?", rising=("layers_0", "layers_1", "pal")
    ),
    Order(question="Table 4: is a third layer worse?", rising=("layers_3", "pal")),
    Order(
        question="Table 5: does beta from 0.6 to 1 beat 0.4 to 0.6, 0 to 1 and 0 to 0.4?",
        rising=("beta_00_04", "beta_00_10", "beta_04_06", "pal"),
    ),
    Order(question="Table 5: does blending beat none (beta = 1)?", rising=("beta_1", "pal")),
    Order(
        question="Does MoCo beat PAL on classification (Fig. 1)?",
        rising=("pal", "moco"),
        figure="tac_linear",
        seeds=3,
    ),
    Order(
        question="After MoCo, does PAL add localization that more MoCo does not?",
        rising=("moco_on_moco", "pal_on_moco"),
    ),
    Order(
        question="After TAC, does PAL add localization that more TAC does not?",
        rising=("tac_on_tac", "pal_on_tac"),
    ),
    Order(
        question="Is a moved, retimed action found again better than by the untrained network?",
        rising=("random", "pal"),
        figure="equivariance",
        seeds=3,
    ),
)


def field_answers(rows: Mapping[str, Sequence[Measured]]) -> list[Answer]:
    """Say whether the field can tell anything at all: ceilings are reached, and motion is what must be seen."""
    answers = []
    for head in ("gtad_map50", "anchor_free_map50"):
        found = estimate(rows.get("one-hot", ()), head)
        verdict = UNDECIDED if found is None else YES if found.value >= CEILING else NO
        question = f"Does the true label reach {CEILING:g} mAP@0.5 through the head?"
        answers.append(Answer(question=question, verdict=verdict, gaps=(("one-hot", found),), figure=head))
    for figure, most in PLACE_TOLERANCE.items():
        gap = difference(rows.get("thumbnails", ()), rows.get("noise", ()), figure)
        verdict = UNDECIDED if gap is None else YES if gap.value <= most else NO
        question = f"Do place and colour say next to nothing (at most {most:g} points above noise)?"
        answers.append(
            Answer(question=question, verdict=verdict, gaps=(("thumbnails - noise", gap),), figure=figure)
        )
    for figure in (*PLACE_TOLERANCE, "tac_linear"):
        gap = difference(rows.get("pose", ()), rows.get("thumbnails", ()), figure)
        verdict = UNDECIDED if gap is None else YES if gap.sign > 0 else NO
        question = "Does motion say what place and colour do not?"
        answers.append(
            Answer(question=question, verdict=verdict, gaps=(("pose - thumbnails", gap),), figure=figure)
        )
    return answers
