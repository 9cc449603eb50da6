"""Rows that are kept count on another machine, are not run again, and end with their version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence.cli import main
from benchmarks.evidence.kept import keep, kept_row, restore_exports, stale_rows
from benchmarks.evidence.plan import Row, build_row
from benchmarks.evidence.profiles import PROFILES
from benchmarks.evidence.results import own_stages, read_row
from benchmarks.evidence.stage import Record, Runner, Stage
from benchmarks.evidence.variants import VARIANTS

PROBE = PROFILES["probe"]
RECORD = Record(seconds=1800.0, starts=2, commit="abc1234", machine="a machine")


def finish(row: Row, runner: Runner) -> None:
    """Make a row look done, without its features and heads."""
    measures = row.measures.folder(runner.work)
    measures.mkdir()
    entry = {"value": 12.5, "draws": [12.0, 13.0]}
    (measures / "measures.json").write_text(json.dumps({"gtad_map": entry}))
    for stage in own_stages(row):
        runner.note(stage, RECORD)
    if row.pretrain:
        run = row.pretrain.folder(runner.work)
        run.mkdir()
        steps = [{"step": 1, "loss": 3.0}, {"step": 2, "val_loss": 2.5, "val_top1": 0.1, "lr": 1.0}]
        (run / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def test_a_kept_row_says_the_same_on_another_machine_until_the_plan_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [build_row(PROBE, VARIANTS[name], 0) for name in ("pal", "one-hot", "moco")]
    first, kept = Runner(tmp_path / "first"), tmp_path / "kept"
    for row in rows[:2]:
        finish(row, first)
    assert keep(rows, first, kept) == ["pal-seed0.json", "one-hot-seed0.json"]
    assert keep(rows, first, kept) == [], "what is kept is not written again"
    for row in rows[:2]:
        before, after = read_row(row, first), kept_row(row, kept)
        assert before is not None and after is not None
        assert before.hours == after.hours == pytest.approx(0.5 * len(own_stages(row)))
        assert (before.values, before.commits, list(before.curve)) == (
            after.values,
            after.commits,
            list(after.curve),
        )
        np.testing.assert_array_equal(before.draws["gtad_map"], after.draws["gtad_map"])
    assert kept_row(rows[2], kept) is None
    assert stale_rows(rows, kept) == []
    monkeypatch.setattr(
        "benchmarks.evidence.plan.VERSIONS", {"pretrain": 2, "features": 1, "head": 1, "shards": 1}
    )
    changed = build_row(PROBE, VARIANTS["pal"], 0)
    assert kept_row(changed, kept) is None
    assert stale_rows([changed], kept) == ["pal-seed0.json"]


def test_backbones_that_others_start_from_are_kept_with_what_they_cost(tmp_path: Path) -> None:
    row = build_row(PROBE, VARIANTS["pal_on_tac"], 0)
    assert row.pretrain is not None
    export = next(stage for stage in row.pretrain.inputs if stage.name == "export")
    first, second, kept = Runner(tmp_path / "first"), Runner(tmp_path / "second"), tmp_path / "kept"
    export.folder(first.work).mkdir()
    (export.folder(first.work) / "backbone.safetensors").write_bytes(b"weights")
    first.note(export, RECORD)
    keep([row], first, kept)
    restore_exports([row], second, kept)
    assert second.done(export) == RECORD
    assert (export.folder(second.work) / "backbone.safetensors").read_bytes() == b"weights"


def test_what_is_kept_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = build_row(PROBE, VARIANTS["one-hot"], 0)
    finish(row, Runner(tmp_path / "first"))
    words = ["--profile", "probe", "--kept", str(tmp_path / "kept"), "--variants", "one-hot"]
    assert main(["keep", "--work", str(tmp_path / "first"), *words]) == 0
    assert str(tmp_path / "kept/probe/one-hot-seed0.json") in capsys.readouterr().out
    assert main(["run", "--work", str(tmp_path / "second"), *words]) == 0
    assert "1 rows, " in capsys.readouterr().out
    assert not list((tmp_path / "second").glob("*.done.json")), "nothing was run"


def test_what_others_start_from_is_exported_when_its_run_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = build_row(PROBE, VARIANTS["pal_on_tac"], 0)
    assert row.pretrain is not None
    export = next(stage for stage in row.pretrain.inputs if stage.name == "export")
    runner, kept = Runner(tmp_path / "work"), tmp_path / "kept"
    assert keep([row], runner, kept) == [], "there is no run yet, and none is started"

    def exported(self: Runner, stage: Stage) -> None:
        assert stage.name == "export"
        stage.folder(self.work).mkdir()
        (stage.folder(self.work) / "backbone.safetensors").write_bytes(b"weights")
        self.note(stage, RECORD)

    monkeypatch.setattr(Runner, "run", exported)
    for needed in export.inputs:
        runner.note(needed, RECORD)
    (written,) = keep([row], runner, kept)
    assert (kept / written).read_bytes() == b"weights"
