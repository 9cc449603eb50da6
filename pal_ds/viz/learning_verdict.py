"""Has a run learned anything? Every figure against the untrained network's, with an interval, and a verdict.

The control is the run's own validation at step 0, and for training the first logged steps. A figure counts as better
only where the interval of its gap leaves zero out. A run has learned where held-out clips and training clips both
say so; a held-out figure far above the training figure is a warning, because no network knows unseen clips better
than its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pal_ds.viz.intervals import NORMAL_99, mean_gap

#: Share of the distance from a guess to perfection by which held-out clips may lead training clips.
MOST_LEAD = 0.25
_FEWEST_ROWS = 4

Rows = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One figure of a run beside its controls.

    Attributes:
        name: what was measured.
        value: of the trained network.
        untrained: of the network before training, by the same instrument; None where there was none.
        guess: what blind guessing scores; None where that is not defined.
        gap: interval of the improvement over the untrained network, positive is better; None without a control.
        unit: written after the numbers.
        digits: decimals shown.
        text: what the number means, in a sentence.
    """

    name: str
    value: float
    untrained: float | None = None
    guess: float | None = None
    gap: tuple[float, float] | None = None
    unit: str = ""
    digits: int = 2
    text: str = ""

    @property
    def better(self) -> bool | None:
        """Whether the figure is better than untrained beyond its interval; None without a control."""
        return None if self.gap is None else self.gap[0] > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all findings say together.

    Attributes:
        learned: True, False, or None where there is no validation at step 0 to compare with.
        headline: the verdict in a few words.
        reasons: one sentence for each thing that decided it.
        warnings: what should be looked into.
        findings: the figures.
    """

    learned: bool | None
    headline: str
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def judge(metrics: Rows, *, queue_size: int, mask_unfilled: bool) -> Verdict:
    """Compare the last validation and the last fifth of training with the untrained network.

    Args:
        metrics: objects of ``metrics.jsonl``.
        queue_size: K.
        mask_unfilled: whether only filled rows serve as negatives in training.

    Returns:
        The verdict. Losses are compared with a blind guess at the same batch where the rows tell it (``chance_loss``,
        or the number of negatives), else with each other.
    """
    train = [row for row in metrics if "val_loss" not in row and row.get("loss") is not None]
    held_out = _held_out(metrics)
    training = _training(train, queue_size, mask_unfilled)
    findings = (*held_out, *training)
    if not findings:
        return Verdict(learned=None, headline="Nothing to judge by: no steps were logged")
    if not held_out or held_out[0].better is None:
        untrained = any(row.get("val_loss") is not None and row["step"] == 0 for row in metrics)
        why = "the held-out loss has no error" if untrained else "there is no validation at step 0"
        return Verdict(learned=None, headline=f"No verdict: {why}", findings=findings)
    unseen = any(one.better for one in held_out[:2])
    seen = bool(training) and bool(training[0].better)
    headline = {
        (True, True): "Learned: better than the untrained network, on clips it never saw too",
        (False, True): "Has not learned: training clips are told apart better, unseen clips are not",
        (True, False): "Has not learned: unseen clips are told apart better, training clips are not",
        (False, False): "Has not learned: no better than the untrained network",
    }[unseen, seen]
    return Verdict(
        learned=unseen and seen,
        headline=headline,
        reasons=tuple(_sentence(one) for one in (*held_out[:2], *training[:1])),
        warnings=_warnings(metrics, train, queue_size, mask_unfilled),
        findings=findings,
    )


def margins(train: Rows, queue_size: int, mask_unfilled: bool) -> list[float]:
    """Return by how many nats each training row's loss lies below that of a blind guess at the same batch."""
    return [_guess(row, queue_size, mask_unfilled) - float(row["loss"]) for row in train]


def _guess(row: Mapping[str, Any], queue_size: int, mask_unfilled: bool) -> float:
    if row.get("chance_loss") is not None:
        return float(row["chance_loss"])
    if row.get("negatives") is not None:
        return math.log1p(float(row["negatives"]))
    # Rows of earlier versions don't say how many negatives there were.
    fill = float(row.get("queue_fill") or 0.0) if mask_unfilled else 1.0
    return math.log1p(fill * queue_size)


def _held_out(metrics: Rows) -> list[Finding]:
    rows = [row for row in metrics if row.get("val_loss") is not None]
    if not rows:
        return []
    first, last = (rows[0] if rows[0]["step"] == 0 else None), rows[-1]
    if first is last:
        first = None
    contrastive = last.get("val_negatives") is not None
    found = [
        _finding(
            "Held-out loss",
            first,
            last,
            ("val_loss", "val_chance_loss", "val_loss_error"),
            lower=True,
            unit=" nat",
            digits=3,
            text="How surprised the network is by the matching region among the other clips of the held-out set."
            if contrastive
            else "How surprised the network is by the right answer of its task on held-out clips.",
        )
    ]
    if last.get("val_top1") is not None:
        found.append(
            _finding(
                "Held-out right picks",
                first,
                last,
                ("val_top1", "val_chance_top1", "val_top1_error"),
                factor=100,
                unit=" %",
                digits=1,
                text="How often the matching region is the most similar of all on held-out clips (top-1)."
                if contrastive
                else "How often the right answer is the likeliest on held-out clips (top-1).",
            )
        )
    if last.get("val_localisation_iou") is not None:
        found.append(
            _finding(
                "Action found again",
                first,
                last,
                ("val_localisation_iou", "val_localisation_iou_chance", None),
                digits=3,
                text="IoU of an action's true place in the other video with the window that looks most like it.",
            )
        )
    return found


def _finding(
    name: str,
    first: Mapping[str, Any] | None,
    last: Mapping[str, Any],
    keys: tuple[str, str, str | None],
    *,
    lower: bool = False,
    factor: float = 1.0,
    unit: str = "",
    digits: int = 2,
    text: str = "",
) -> Finding:
    key, chance, error = keys
    gap = None
    if first is not None and first.get(key) is not None and error is not None and error in last:
        gain = factor * (float(last[key]) - float(first[key])) * (-1 if lower else 1)
        spread = math.hypot(float(first.get(error) or 0.0), float(last.get(error) or 0.0))
        # 99 %, since several figures are looked at; hundreds of clips stand behind each error.
        gap = gain - factor * NORMAL_99 * spread, gain + factor * NORMAL_99 * spread
    return Finding(
        name=name,
        value=factor * float(last[key]),
        untrained=factor * float(first[key]) if first is not None and first.get(key) is not None else None,
        guess=factor * float(last[chance]) if last.get(chance) is not None else None,
        gap=gap,
        unit=unit,
        digits=digits,
        text=text,
    )


def _training(train: Rows, queue_size: int, mask_unfilled: bool) -> list[Finding]:
    if len(train) < 2 * _FEWEST_ROWS:
        return []
    contrastive = all("positive_similarity" in row for row in train)
    # A batch with fewer rows that count has a smaller loss whatever the network knows: its guess has too.
    below = contrastive or all(row.get("chance_loss") is not None for row in train)
    values = np.array(
        margins(train, queue_size, mask_unfilled) if below else [-float(row["loss"]) for row in train]
    )
    first, last = _ends(train)
    guessing = (
        "Guessing among the negatives of a step" if contrastive else "Finding every answer equally likely"
    )
    finding = Finding(
        name="Training loss below a guess" if below else "Training loss",
        value=float(values[last].mean()) * (1 if below else -1),
        untrained=float(values[first].mean()) * (1 if below else -1),
        guess=0.0 if below else None,
        gap=mean_gap(values[first].tolist(), values[last].tolist()),
        unit=" nat",
        digits=3,
        text="Mean over the last fifth of the steps; beside it the first steps. "
        + (f"{guessing} scores 0, more is better." if below else ""),
    )
    return [finding]


def _ends(train: Rows) -> tuple[slice, slice]:
    """Return the rows that stand for the untrained network, and the last fifth.

    The first twentieth, at least four rows: in more the network would have begun to learn.
    """
    first = max(_FEWEST_ROWS, len(train) // 20)
    return slice(0, first), slice(len(train) - max(_FEWEST_ROWS, len(train) // 5), len(train))


def _warnings(metrics: Rows, train: Rows, queue_size: int, mask_unfilled: bool) -> tuple[str, ...]:
    last = next((row for row in reversed(metrics) if row.get("val_chance_loss")), None)
    if last is None or len(train) < 2 * _FEWEST_ROWS:
        return ()
    unseen = 1 - float(last["val_loss"]) / float(last["val_chance_loss"])
    tail = train[_ends(train)[1]]
    shares = [
        1 - float(row["loss"]) / guess
        for row in tail
        if ("chance_loss" in row or "positive_similarity" in row)
        and (guess := _guess(row, queue_size, mask_unfilled)) > 0
    ]
    if not shares:
        return ()
    seen = sum(shares) / len(shares)
    if unseen - seen <= MOST_LEAD:
        return ()
    return (
        f"Held-out clips are scored far better than training clips ({100 * unseen:.0f} against {100 * seen:.0f} % of "
        "the way from a guess to perfection). Look into it before trusting either: a network does not know unseen "
        "clips better than its own.",
    )


def _sentence(finding: Finding) -> str:
    digits, unit = finding.digits, finding.unit
    text = f"{finding.name}: {finding.value:.{digits}f}{unit}"
    if finding.untrained is not None:
        text += f", untrained {finding.untrained:.{digits}f}{unit}"
    if finding.guess is not None:
        text += f", a blind guess {finding.guess:.{digits}f}{unit}"
    if finding.gap is not None:
        low, high = finding.gap
        text += f" (better by {low:.{digits}f} to {high:.{digits}f}{unit} in 99 of 100)"
    return text + "."
