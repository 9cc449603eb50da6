"""The whole command on a tiny profile: every kind of row is made, a second call does nothing, the page is there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks.evidence.cli import main
from benchmarks.evidence.plan import build_row
from benchmarks.evidence.profiles import PROFILES
from benchmarks.evidence.results import FIGURES
from benchmarks.evidence.variants import VARIANTS, Variant, rows
from pal_ds.config import load_config

needs_motions = pytest.mark.skipif(
    not importlib.util.find_spec("pybullet_data"), reason="pybullet isn't installed"
)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "variant", [one for one in VARIANTS.values() if not one.reference], ids=lambda one: one.name
)
def test_every_variant_has_a_valid_config_and_an_equal_budget(
    variant: Variant, profile: str, tmp_path: Path
) -> None:
    sizes = PROFILES[profile]
    row = build_row(sizes, variant, 3)
    assert row.pretrain is not None
    words = row.pretrain.command(tmp_path)
    config = load_config(words[words.index("--config") + 1], words[words.index("--config") + 2 :])
    assert (config.run.seed, config.data.global_batch) == (3, sizes.batch)
    assert config.run.max_steps == (sizes.steps if variant.trained else min(sizes.steps, 40))
    assert config.optimizer.lr == (1e-3 if variant.trained else 0)


def test_main_rows_come_before_ablations_and_seed_by_seed() -> None:
    order = [(variant.name, seed) for variant, seed in rows(PROFILES["two-core"])]
    assert [name for name, _ in order[:5]] == ["noise", "thumbnails", "motion", "pose", "one-hot"]
    assert order[5:9] == [("random", 0), ("pal", 0), ("moco", 0), ("tac", 0)]
    assert order.index(("pal", 2)) < order.index(("dense", 0)) < order.index(("layers_0", 0))
    assert len(order) == len(set(order))


def test_data_or_a_config_that_changes_makes_other_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = PROFILES["probe"]
    key = build_row(profile, VARIANTS["pal"], 0).measures.key
    assert build_row(profile, VARIANTS["pal"], 1).measures.key != key
    assert build_row(profile, VARIANTS["pal"], 0, development=True).measures.key != key
    monkeypatch.setattr(
        "benchmarks.evidence.plan.VERSIONS", {"pretrain": 2, "features": 1, "head": 1, "shards": 1}
    )
    assert build_row(profile, VARIANTS["pal"], 0).measures.key != key


@needs_motions
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_command_makes_every_kind_of_row_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--work",
        str(tmp_path),
        "--profile",
        "probe",
        "--variants",
        "one-hot,supervised,pal_on_tac",
    ]
    assert main(["run", *words, "--jobs", "2"]) == 0
    capsys.readouterr()
    document = json.loads((tmp_path / "probe.json").read_text())
    done = {row["variant"]: row["figures"] for row in document["rows"]}
    assert set(done) == {"one-hot", "supervised", "pal_on_tac"}
    assert set(done["supervised"]) >= set(FIGURES)
    assert set(FIGURES) - set(done["one-hot"]) == {"equivariance"}
    assert done["one-hot"]["auc_within"] > 95, "the label tells action from background"
    assert done["one-hot"]["tac_linear"] == 100
    estimate = document["estimates"]["pal_on_tac"]["auc_within"]
    assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert "noise-seed0" in document["missing"]
    page = (tmp_path / "probe.html").read_text()
    assert "Does PAL beat the untrained network?" in page
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.done.json")}
    assert main(["run", *words]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.done.json")} == before
    assert main(["report", *words]) == 0


def test_bad_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--work", str(tmp_path), "--variants", "pall"]) == 2
    assert capsys.readouterr().err.startswith("evidence: --variants pall: use noise")
