"""The comparison as one page: the paper's Fig. 1 for these variants, table, orderings, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.fidelity.results import DECIDING, FIGURES, Row, cell
from benchmarks.fidelity.variants import VARIANTS
from pal_ds.viz.report_page import Picture, ReportData, Section, Table
from pal_ds.viz.style import ACCENT, ACTION, BACKGROUND, GOOD, INK, SECOND, new_figure, to_bytes

_COLOURS = dict(
    zip(VARIANTS, (BACKGROUND, SECOND, "#8d6a9f", "#5c7a29", "#c77dba", ACTION, GOOD, ACCENT), strict=True)
)
_ORDERING = (
    "Clear means: two seeds or more, and a gap beyond the sum of both half ranges. Two seeds are few, and the "
    "validation set is small: treat what isn't clear as undecided."
)
_CURVES = (
    ("loss", "loss"),
    ("val_loss", "loss on held-out clips"),
    ("top1", "top-1 of its own task"),
    ("feature_std", "spread of the features"),
)


def build_page(document: Mapping[str, Any], rows: Sequence[Row]) -> ReportData:
    """Lay out what ``results.json`` says."""
    summary = document["summary"]
    sections = [
        Section(
            title="Localization against classification (the paper's Fig. 1)",
            text="Frozen features of each pre-training: action classification of trimmed clips by a linear probe, "
            "across, and temporal localization in untrimmed videos, up. The paper's point: they do not go together.",
            picture=Picture(
                data=_figure_1(rows),
                alt="scatter of localization mAP over classification accuracy, a colour for each pre-training",
                see="A dot is a seed, a cross the mean of a variant.",
            ),
        ),
        Section(title="Table", text=_table_text(document), table=_table(summary)),
        *(
            Section(
                title=f"The paper's orderings, by {name}",
                text=_ORDERING if number == 0 else "",
                table=_ordering_table(document["orderings"][key]),
            )
            for number, (key, name) in enumerate(DECIDING.items())
        ),
        *(_beside(word, found) for word, found in document["beside"].items()),
        *(
            _curve(rows, key, title)
            for key, title in _CURVES
            if any(key in step for row in rows for step in row.steps)
        ),
        Section(title="What ran", text=_missing(document), table=_stage_table(rows)),
    ]
    return ReportData(
        title="What the pre-training learns, measured",
        subtitle="Every variant with the same clips, steps and heads, through the normal commands; nothing was "
        "tuned on the scores shown.",
        facts=tuple((name.replace("_", " "), str(value)) for name, value in document["facts"].items()),
        sections=tuple(sections),
    )


def _figure_1(rows: Sequence[Row]) -> bytes:
    figure = new_figure(10.5, 4.4)
    for axes, key, name in zip(
        figure.subplots(1, 2), ("average_mAP", "agnostic_mAP"), ("", " (one class)"), strict=True
    ):
        for variant in VARIANTS.values():
            points = [
                (row.figures["linear"], row.figures[key])
                for row in rows
                if row.variant == variant.name and {"linear", key} <= row.figures.keys()
            ]
            if not points:
                continue
            across, up = zip(*points, strict=True)
            colour = _COLOURS[variant.name]
            axes.plot(across, up, "o", color=colour, ms=6, alpha=0.65, label=variant.title)
            axes.plot(sum(across) / len(across), sum(up) / len(up), "x", color=colour, ms=9, mew=2)
        axes.set_xlabel("trimmed clips: linear probe, top-1 %", color=INK)
        axes.set_ylabel(f"G-TAD, mAP %{name}", color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, alpha=0.2)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    return to_bytes(figure, "svg")


def _curve(rows: Sequence[Row], key: str, title: str) -> Section:
    figure = new_figure(6.8, 3.2)
    axes = figure.add_subplot()
    named = set()
    for row in rows:
        points = [(step["step"], step[key]) for step in row.steps if step.get(key) is not None]
        if points:
            label = None if row.variant in named else VARIANTS[row.variant].title
            named.add(row.variant)
            axes.plot(
                *zip(*points, strict=True), color=_COLOURS[row.variant], lw=1.2, alpha=0.85, label=label
            )
    axes.set_xlabel("optimizer step", color=INK)
    axes.set_ylabel(title, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.2)
    if named:
        axes.legend(frameon=False, fontsize=8.5)
    good = {
        "loss": "falls and levels off; losses of different objectives can't be compared with each other",
        "val_loss": "falls as the training loss does; where it rises, the network overfits to the training clips",
        "top1": "rises above a blind guess",
        "feature_std": "stays well above 0: at 0 all features are one point",
    }[key]
    picture = Picture(
        data=to_bytes(figure, "svg"), alt=f"{title} over steps", see="A line is a seed.", good=good
    )
    return Section(title=f"Training: {title}", picture=picture)


def _table(summary: Sequence[Mapping[str, Any]]) -> Table:
    header = ("pre-training", "seeds", *(heading for _, heading, _ in FIGURES), "paper's mAP")
    rows = tuple(
        (
            row["title"],
            len(row["seeds"]),
            *(cell(row[key], digits) for key, _, digits in FIGURES),
            "" if row["paper"] is None else row["paper"],
        )
        for row in summary
    )
    return Table(header=header, rows=rows)


def _table_text(document: Mapping[str, Any]) -> str:
    return (
        f"{document['evaluated']} ± is half the range over seeds. kNN and linear: top-1 on trimmed validation clips "
        f"(chance {document['chance']}), of each video's mean and of what is left without it, in order. Same video "
        "found: half of a video's features lead to the other half among all validation clips. Equivariance: overlap "
        "of an action, moved and played at another speed in a "
        "mirrored, paler video, with the stretch most like it. The paper's column is G-TAD on ActivityNet after 100 "
        "epochs (TAC: 200) of Kinetics-400: another scale altogether, shown for its order."
    )


def _ordering_table(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            f"{VARIANTS[row['above']].title} above {VARIANTS[row['below']].title}",
            f"{row['gap']:+.2f}",
            "yes" if row["holds"] else "no",
            "yes" if row["clear"] else "no",
            row["seeds"],
        )
        for row in found
    )
    return Table(header=("in the paper", "gap here, points", "holds here", "clear", "seeds"), rows=rows)


def _beside(word: str, found: Mapping[str, Any]) -> Section:
    rows = tuple(
        (
            f"{VARIANTS[entry['above']].title} above {VARIANTS[entry['below']].title}",
            DECIDING[key],
            f"{entry['gap']:+.2f}{'' if entry['clear'] else ', not clear'}",
            f"{entry['other_gap']:+.2f}{'' if entry['other_clear'] else ', not clear'}",
            "yes" if entry["same"] else "no" if entry["clear"] and entry["other_clear"] else "undecided",
        )
        for key, entries in found["orders"].items()
        for entry in entries
    )
    return Section(
        title=f"Does the budget decide the order? The same with {word}",
        text="Gaps in points; clear as above. An ordering that is clear both times and changes its sign is the "
        "budget's, not the method's; one that changes its sign without being clear is undecided.",
        table=Table(header=("in the paper", "by", "gap here", f"with {word}", "same order"), rows=rows),
    )


def _stage_table(rows: Sequence[Row]) -> Table:
    found = tuple(
        (row.variant, row.seed, name, round(seconds, 1), row.commits[name])
        for row in rows
        for name, seconds in row.seconds.items()
    )
    return Table(header=("variant", "seed", "stage", "seconds", "commit"), rows=found)


def _missing(document: Mapping[str, Any]) -> str:
    missing = document["missing"]
    return f"Not run: {', '.join(missing)}." if missing else "Everything that was asked for has run."
