"""Finished rows kept in the repository, so that another machine goes on where this one stopped.

A work folder is gigabytes and may end with its machine. What a row is judged by is little: its figures on every draw,
the validated steps of its curve, and what its stages cost: one JSON file a row under
``benchmarks/evidence/kept/PROFILE``. Where other variants start from it, its backbone lies beside it. A file whose
key is not the plan's any more counts for nothing, and that is said.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.plan import Row
from benchmarks.evidence.results import Measured, measured_from, own_stages, validated_steps
from benchmarks.evidence.stage import Record, Runner, Stage

KEPT = Path(__file__).parent / "kept"
_BACKBONE = "backbone.safetensors"


def keep(planned: Sequence[Row], runner: Runner, folder: Path) -> list[str]:
    """Write a file for every finished row that has none; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for row in planned:
        path = _path(folder, row)
        if runner.done(row.measures) is None or _read(path).get("key") == row.measures.key:
            continue
        records = {stage.name: record for stage in own_stages(row) if (record := runner.done(stage))}
        document = {
            "key": row.measures.key,
            "stages": {name: dataclasses.asdict(record) for name, record in records.items()},
            "curve": validated_steps(row.pretrain.folder(runner.work)) if row.pretrain else [],
            "measures": json.loads((row.measures.folder(runner.work) / "measures.json").read_text()),
        }
        path.write_text(_one_line_an_entry(document))
        written.append(path.name)
    for stage in _exports(planned):
        path = _export_path(folder, stage)
        if all(runner.done(needed) for needed in stage.inputs):
            runner.run(stage)
        record = runner.done(stage)
        if record is not None and not path.exists():
            shutil.copyfile(stage.folder(runner.work) / _BACKBONE, path)
            path.with_suffix(".json").write_text(json.dumps(dataclasses.asdict(record)) + "\n")
            written.append(path.name)
    return written


def kept_row(row: Row, folder: Path) -> Measured | None:
    """Return a kept row's figures; None where there is none, or one of another version."""
    document = _read(_path(folder, row))
    if document.get("key") != row.measures.key:
        return None
    records = {name: Record(**record) for name, record in document["stages"].items()}
    return measured_from(row, document["measures"], records, document["curve"])


def stale_rows(planned: Sequence[Row], folder: Path) -> list[str]:
    """Return the files of rows that belong to another version of the benchmark."""
    paths = [(row, _path(folder, row)) for row in planned]
    return [path.name for row, path in paths if path.exists() and _read(path).get("key") != row.measures.key]


def restore_exports(planned: Sequence[Row], runner: Runner, folder: Path) -> None:
    """Put kept backbones into the work folder, so that what starts from them need not train them again."""
    for stage in _exports(planned):
        path = _export_path(folder, stage)
        if path.exists() and runner.done(stage) is None:
            out = stage.folder(runner.work)
            out.mkdir(exist_ok=True)
            shutil.copyfile(path, out / _BACKBONE)
            runner.note(stage, Record(**json.loads(path.with_suffix(".json").read_text())))


def _exports(planned: Sequence[Row]) -> list[Stage]:
    """Return the exports that rows start from."""
    runs = [row.pretrain for row in planned if row.pretrain is not None]
    return list({one.key: one for run in runs for one in run.inputs if one.name == "export"}.values())


def _path(folder: Path, row: Row) -> Path:
    return folder / f"{row.name}.json"


def _export_path(folder: Path, stage: Stage) -> Path:
    return folder / f"{stage.owner}-{stage.key}.safetensors"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _one_line_an_entry(document: dict[str, Any]) -> str:
    """Return JSON whose second level takes one line an entry: small, and its changes can be read."""
    parts = []
    for key, value in document.items():
        if isinstance(value, dict):
            rows = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items())
            parts.append(f" {json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n }")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
