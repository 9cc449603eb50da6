"""Rows of figures, and differences of variants with their intervals.

A difference is drawn over videos and seeds at once. The draws over videos are shared by all rows, so they are
paired. Seeds are drawn with replacement from each variant's own; because few seeds drawn from themselves spread too
little, by (n - 1) / n of their variance, each drawn mean is moved away from the variant's mean by sqrt(n / (n - 1)).
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.measures.bootstrap import DRAWS
from benchmarks.evidence.plan import Row
from benchmarks.evidence.stage import Record, Runner, Stage

#: Key and heading of every figure, in percent, in the order of the table.
FIGURES = {
    "gtad_map": "G-TAD mAP",
    "gtad_map50": "G-TAD mAP@0.5",
    "anchor_free_map": "anchor-free mAP",
    "anchor_free_map50": "anchor-free mAP@0.5",
    "ar10": "AR@10",
    "ar100": "AR@100",
    "auc_within": "action AUC, within",
    "auc_pooled": "action AUC, pooled",
    "boundary_ap": "boundary AP",
    "boundary_auc": "boundary AUC",
    "segment_knn": "segment kNN",
    "segment_r1": "segment R@1",
    "tac_linear": "TAC linear",
    "tac_knn": "TAC kNN",
    "equivariance": "equivariance IoU",
}
Draws = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One finished row: the value of each figure, and its value on every draw of videos [DRAWS]."""

    variant: str
    seed: int
    values: Mapping[str, float]
    draws: Mapping[str, Draws]
    hours: float
    commits: Mapping[str, str]
    machine: str
    curve: Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure or a difference with its 95 % interval, and how many seeds it rests on."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def read_row(row: Row, runner: Runner) -> Measured | None:
    """Read a row's figures from a work folder; None where it isn't done."""
    if runner.done(row.measures) is None:
        return None
    found = json.loads((row.measures.folder(runner.work) / "measures.json").read_text())
    records = {stage.name: record for stage in own_stages(row) if (record := runner.done(stage))}
    curve = validated_steps(row.pretrain.folder(runner.work)) if row.pretrain else []
    return measured_from(row, found, records, curve)


def measured_from(
    row: Row,
    found: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, Record],
    curve: Sequence[Mapping[str, float]],
) -> Measured:
    """Return a row from the content of its ``measures.json``, what its stages cost, and its curve."""
    return Measured(
        variant=row.variant.name,
        seed=row.seed,
        values={name: entry["value"] for name, entry in found.items()},
        draws={name: np.array(entry["draws"]) for name, entry in found.items()},
        hours=sum(record.seconds for record in records.values()) / 3600,
        commits={name: record.commit for name, record in records.items()},
        machine=next((record.machine for record in records.values()), ""),
        curve=curve,
    )


def own_stages(row: Row) -> list[Stage]:
    """Return the stages that are this row's alone, the last last."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        for needed in stage.inputs:
            add(needed)
        if stage.owner in (row.name, row.variant.name):
            found[stage.key] = stage

    add(row.measures)
    return list(found.values())


def estimate(rows: Sequence[Measured], figure: str) -> Estimate | None:
    """Return a variant's mean over seeds with its interval over videos and seeds; None where no row has it."""
    drawn = _drawn(rows, figure)
    return None if drawn is None else _interval(*drawn)


def difference(above: Sequence[Measured], below: Sequence[Measured], figure: str) -> Estimate | None:
    """Return ``above`` less ``below``, paired over videos; None where either is missing."""
    first, second = _drawn(above, figure), _drawn(below, figure)
    if first is None or second is None:
        return None
    return _interval(first[0] - second[0], first[1] - second[1], min(first[2], second[2]))


def _drawn(rows: Sequence[Measured], figure: str) -> tuple[float, Draws, int] | None:
    known = [row for row in rows if figure in row.values]
    if not known:
        return None
    values_s = np.array([row.values[figure] for row in known])
    draws_sd = np.stack([row.draws[figure] for row in known])
    count = len(known)
    mean_d = draws_sd.mean(axis=0)
    if count > 1:
        # Of its own for every variant: their seeds are different networks.
        key = zlib.crc32(known[0].variant.encode())
        chosen_ds = np.random.default_rng([key, count]).integers(0, count, (DRAWS, count))
        resampled_d = np.take_along_axis(draws_sd.T, chosen_ds, axis=1).mean(axis=1)
        mean_d = mean_d + np.sqrt(count / (count - 1)) * (resampled_d - mean_d)
    return float(values_s.mean()), mean_d, count


def _interval(value: float, draws_d: Draws, seeds: int) -> Estimate:
    low, high = np.percentile(draws_d, [2.5, 97.5])
    return Estimate(value=value, low=float(low), high=float(high), seeds=seeds)


def validated_steps(run: Path) -> list[dict[str, float]]:
    """Return the validated steps of a run."""
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = ("step", "val_loss", "val_top1", "val_thumbnail_top1", "val_motion_top1", "val_localisation_iou")
    return [{key: row[key] for key in kept if key in row} for row in rows if "val_loss" in row]


def as_json(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return rows for the results file, without their draws."""
    return [
        {
            "variant": row.variant,
            "seed": row.seed,
            "figures": {name: round(value, 3) for name, value in row.values.items()},
            "hours": round(row.hours, 3),
            "commits": dict(row.commits),
            "machine": row.machine,
            "curve": list(row.curve),
        }
        for row in measured
    ]
