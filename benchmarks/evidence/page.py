"""What was found, as ``results.json``, a Markdown table and one page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.figure import curves, intervals
from benchmarks.evidence.profiles import Profile
from benchmarks.evidence.questions import PRIMARY, QUESTIONS, Answer, field_answers
from benchmarks.evidence.results import FIGURES, Estimate, Measured, as_json, estimate
from benchmarks.evidence.variants import VARIANTS
from pal_ds.viz.report_page import Picture, ReportData, Section, Table, write_report

Rows = Mapping[str, Sequence[Measured]]
#: Variants whose judged figure stands at the top of the page.
HEADLINE = ("noise", "motion", "random", "pal", "moco", "tac", "one-hot")


def write(folder: Path, name: str, profile: Profile, measured: Sequence[Measured], missing: list[str]) -> str:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.html``; returns the Markdown."""
    rows = {variant: [row for row in measured if row.variant == variant] for variant in VARIANTS}
    answers = [*field_answers(rows), *(question.answer(rows) for question in QUESTIONS)]
    document = {
        "profile": dataclasses.asdict(profile),
        "hours": round(sum(row.hours for row in measured), 2),
        "estimates": _estimates(rows),
        "answers": [dataclasses.asdict(answer) for answer in answers],
        "rows": as_json(measured),
        "missing": missing,
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    text = _markdown(_table(rows)) + "\n" + _markdown(_answer_table(answers))
    (folder / f"{name}.md").write_text(text)
    write_report(_page(profile, rows, answers, measured, missing), str(folder / f"{name}.html"))
    return text


def _estimates(rows: Rows) -> dict[str, dict[str, Any]]:
    return {
        variant: {
            figure: dataclasses.asdict(found)
            for figure in FIGURES
            if (found := estimate(measured, figure)) is not None
        }
        for variant, measured in rows.items()
        if measured
    }


def _page(
    profile: Profile, rows: Rows, answers: Sequence[Answer], measured: Sequence[Measured], missing: list[str]
) -> ReportData:
    drawn = curves(rows, profile.batch)
    sections = [
        Section(
            title="Where PAL helps",
            text="Every system's frozen features through the same probes and heads. Grey: floors (noise, thumbnails, "
            "motion numbers, the untrained network) and ceilings (the network supervised with the same labels, true "
            "pose, true label). A gap counts only if its interval excludes zero.",
            picture=Picture(
                data=intervals(rows),
                alt="every variant's figures with their intervals, a panel for each figure",
                see="A dot is the mean over seeds, a line its 95 % interval over videos and seeds; a number with an "
                "arrow is a ceiling beyond the axis.",
                good="PAL right of the untrained network and of MoCo, with intervals that do not meet",
            ),
        ),
        Section(
            title="Questions, and answers by the rules written before the runs", table=_answer_table(answers)
        ),
        *(
            [
                Section(
                    title="Curves",
                    picture=Picture(
                        data=drawn,
                        alt="held-out loss, top-1 and top-1 of thumbnails over samples seen",
                        see="A line is a seed.",
                        good="top-1 far above that of thumbnails: what is learned is not place and colour",
                    ),
                )
            ]
            if drawn
            else []
        ),
        Section(title="All figures", table=_table(rows)),
        Section(
            title="What ran",
            text=(f"Not run yet: {', '.join(missing)}. " if missing else "Everything has run. ")
            + _settings(profile),
            table=Table(
                header=("variant", "seed", "hours", "commit", "machine"),
                rows=tuple(
                    (
                        VARIANTS[row.variant].title,
                        row.seed,
                        round(row.hours, 2),
                        ", ".join(sorted(set(row.commits.values()))),
                        row.machine,
                    )
                    for row in measured
                ),
            ),
        ),
    ]
    return ReportData(
        title="Where PAL helps, measured",
        subtitle="The paper's systems on rendered motion capture: one command, the same samples and heads for all.",
        facts=_facts(profile, rows),
        sections=tuple(sections),
    )


def _facts(profile: Profile, rows: Rows) -> tuple[tuple[str, str], ...]:
    """Return what stands at the top: the judged figure of the main variants, and what each of them had."""
    judged = (
        (f"{VARIANTS[name].title}: {FIGURES[PRIMARY]}", _cell(estimate(rows[name], PRIMARY)))
        for name in HEADLINE
        if rows.get(name)
    )
    had = (
        f"{profile.samples:,} samples of {profile.side} pixels, {profile.backbone} at width {profile.width:g}"
    )
    return (*judged, ("each trained on", had))


def _settings(profile: Profile) -> str:
    values = dataclasses.asdict(profile).items()
    return "Profile: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values) + "."


def _table(rows: Rows) -> Table:
    shown = [(variant, measured) for variant, measured in rows.items() if measured]
    return Table(
        header=("features", "seeds", *FIGURES.values()),
        rows=tuple(
            (
                VARIANTS[variant].title,
                len(measured),
                *(_cell(estimate(measured, figure)) for figure in FIGURES),
            )
            for variant, measured in shown
        ),
    )


def _answer_table(answers: Sequence[Answer]) -> Table:
    return Table(
        header=("question", "by", "verdict", "points, with 95 % interval"),
        rows=tuple(
            (
                answer.question,
                FIGURES[answer.figure],
                answer.verdict,
                "; ".join(f"{name}: {_cell(gap) or 'not run'}" for name, gap in answer.gaps),
            )
            for answer in answers
        ),
    )


def _cell(found: Estimate | None) -> str:
    return "" if found is None else f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"


def _markdown(table: Table) -> str:
    lines = [" | ".join(("", *map(str, row), "")).strip() for row in (table.header, *table.rows)]
    return "\n".join([lines[0], "|" + "---|" * len(table.header), *lines[1:]]) + "\n"
