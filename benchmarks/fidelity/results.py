"""Figures of finished stages, row by row, and what they say of the paper's orderings."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fidelity.pipeline import Road
from benchmarks.fidelity.stage import Runner
from benchmarks.fidelity.variants import VARIANTS

#: Key, heading, and decimals of every figure, all in percent but the last.
FIGURES = (
    ("average_mAP", "G-TAD mAP", 2),
    ("mAP_50", "mAP@0.5", 2),
    ("agnostic_mAP", "without names: mAP", 2),
    ("agnostic_50", "mAP@0.5", 2),
    ("AR_1", "BMN AR@1", 2),
    ("AR_10", "AR@10", 2),
    ("AR_100", "AR@100", 2),
    ("AUC", "AUC", 2),
    ("knn", "kNN", 1),
    ("linear", "linear", 1),
    ("knn_changes", "without the video's mean: kNN", 1),
    ("linear_changes", "linear", 1),
    ("same_video", "same video found", 1),
    ("scene_share", "variance between videos", 1),
    ("localised", "equivariance (IoU)", 1),
    ("found", "Fig. 3 found", 1),
    ("minutes", "pre-training, min", 1),
)
#: The figures by which variants are put in order.
DECIDING = {"average_mAP": "G-TAD's mAP", "agnostic_mAP": "G-TAD's mAP without names", "AUC": "BMN's AUC"}
#: Pairs of the paper's Table 1 and Table 3: the first should be above the second.
ORDERINGS = (
    ("moco", "random"),
    ("pal", "random"),
    ("pal", "moco"),
    ("tac", "moco"),
    ("pal", "tac"),
    ("dense", "moco"),
    ("scale", "dense"),
    ("same", "scale"),
    ("pal", "same"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One variant and seed: figures that are there, seconds and commit of each of its stages."""

    variant: str
    seed: int
    figures: dict[str, float]
    seconds: dict[str, float]
    commits: dict[str, str]
    machine: str
    steps: list[dict[str, Any]]

    @property
    def complete(self) -> bool:
        """Whether every figure is there."""
        return all(key in self.figures for key, _, _ in FIGURES)


def read_row(road: Road, runner: Runner) -> Row:
    """Read what a road has yielded so far."""
    figures: dict[str, float] = {}
    readers: tuple[tuple[Any, Callable[[Path], dict[str, float]]], ...] = (
        (road.detection, _detection),
        (road.agnostic, _agnostic),
        (road.proposals, _proposals),
        (road.probe, _probe),
        (road.figure, _figure),
    )
    for stage, read in readers:
        if runner.done(stage):
            figures |= read(stage.folder(runner.work))
    records = {stage.name: runner.done(stage) for stage in road.stages}
    done = {name: record for name, record in records.items() if record is not None}
    if "pretrain" in done:
        figures["minutes"] = done["pretrain"].seconds / 60
    return Row(
        variant=road.variant.name,
        seed=road.seed,
        figures=figures,
        seconds={name: record.seconds for name, record in done.items()},
        commits={name: record.commit for name, record in done.items()},
        machine=next((record.machine for record in done.values()), ""),
        steps=_steps(road.pretrain.folder(runner.work)) if "pretrain" in done else [],
    )


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Give mean and half the range over seeds of each figure, variant by variant in the order of the table."""
    table = []
    for name, variant in VARIANTS.items():
        mine = [row for row in rows if row.variant == name and row.figures]
        if not mine:
            continue
        found: dict[str, Any] = {"variant": name, "title": variant.title, "paper": variant.paper}
        found["seeds"] = [row.seed for row in mine]
        for key, _, _ in FIGURES:
            values = [row.figures[key] for row in mine if key in row.figures]
            found[key] = (
                {"mean": sum(values) / len(values), "half_range": (max(values) - min(values)) / 2}
                if values
                else None
            )
        table.append(found)
    return table


def orderings(summary: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Say of each ordering of the paper whether it holds here, and whether the seeds could have decided it."""
    by_name = {row["variant"]: row for row in summary}
    found = []
    for first, second in ORDERINGS:
        if first not in by_name or second not in by_name:
            continue
        one, other = by_name[first][key], by_name[second][key]
        if one is None or other is None:
            continue
        gap = one["mean"] - other["mean"]
        seeds = min(len(by_name[first]["seeds"]), len(by_name[second]["seeds"]))
        clear = seeds >= 2 and abs(gap) > one["half_range"] + other["half_range"]
        found.append(
            {"above": first, "below": second, "gap": gap, "holds": gap > 0, "clear": clear, "seeds": seeds}
        )
    return found


def both_ways(
    summary: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], key: str
) -> list[dict[str, Any]]:
    """Put the orderings of two budgets side by side, where both have them, and tell where each is clear."""
    there = {(entry["above"], entry["below"]): entry for entry in orderings(other, key)}
    return [
        {
            "above": entry["above"],
            "below": entry["below"],
            "gap": entry["gap"],
            "other_gap": there[name]["gap"],
            "same": entry["holds"] == there[name]["holds"],
            "clear": entry["clear"],
            "other_clear": there[name]["clear"],
        }
        for entry in orderings(summary, key)
        if (name := (entry["above"], entry["below"])) in there
    ]


def markdown(summary: Sequence[dict[str, Any]]) -> str:
    """Give the table as Markdown; ± is half the range over seeds."""
    heads = ["variant", "seeds", *(heading for _, heading, _ in FIGURES), "paper's mAP"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in summary:
        cells = [cell(row[key], digits) for key, _, digits in FIGURES]
        paper = "" if row["paper"] is None else f"{row['paper']:.1f}"
        lines.append("| " + " | ".join([row["title"], str(len(row["seeds"])), *cells, paper]) + " |")
    return "\n".join(lines) + "\n"


def cell(value: dict[str, float] | None, digits: int) -> str:
    """Give a mean and its spread as text; empty where there is none."""
    if value is None or math.isnan(value["mean"]):
        return ""
    spread = f" ± {value['half_range']:.{digits}f}" if value["half_range"] else ""
    return f"{value['mean']:.{digits}f}{spread}"


def _detection(folder: Path) -> dict[str, float]:
    figures = json.loads((folder / "result.json").read_text())["figures"]
    return {"average_mAP": figures["average_mAP"], "mAP_50": figures["mAP"][0]}


def _agnostic(folder: Path) -> dict[str, float]:
    figures = json.loads((folder / "agnostic.json").read_text())
    return {"agnostic_mAP": figures["average_mAP"], "agnostic_50": figures["mAP"][0]}


def _proposals(folder: Path) -> dict[str, float]:
    figures = json.loads((folder / "result.json").read_text())["figures"]
    return {**{f"AR_{number}": figures["AR"][str(number)] for number in (1, 10, 100)}, "AUC": figures["AUC"]}


def _probe(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "probe.json").read_text())
    keys = ("knn", "linear", "knn_changes", "linear_changes", "same_video", "scene_share")
    return {key: found[key] for key in keys}


def _figure(folder: Path) -> dict[str, float]:
    (found,) = json.loads((folder / "figure3.json").read_text())["encoders"].values()
    return {key: 100 * found[key] for key in ("localised", "found") if found[key] is not None}


def _steps(run: Path) -> list[dict[str, Any]]:
    wanted = ("step", "loss", "val_loss", "top1", "feature_std", "positive_similarity", "negative_similarity")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in wanted if key in row} for row in rows]
