"""The comparison of pre-trainings: what a stage's key depends on, resuming, the time limit, tables, orderings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fidelity import agnostic
from benchmarks.fidelity.agnostic import merge
from benchmarks.fidelity.budget import BUDGETS
from benchmarks.fidelity.cli import main
from benchmarks.fidelity.pipeline import build_road, given_corpus
from benchmarks.fidelity.probe import changes, knn_accuracy, linear_accuracy, same_video, scene_share
from benchmarks.fidelity.results import FIGURES, Row, both_ways, cell, markdown, orderings, summarise
from benchmarks.fidelity.stage import OutOfTime, Runner, Stage, StageError
from benchmarks.fidelity.variants import VARIANTS, Variant
from pal_ds.config import load_config
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name


def shell(text: str, *inputs: Stage, **more: object) -> Stage:
    return Stage(name="s", owner="me", words=("sh", "-c", text, "{out}"), inputs=inputs, **more)  # type: ignore[arg-type]  # any of Stage's fields


def test_a_stage_runs_once_and_again_only_if_its_command_inputs_or_files_change(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.write_text("1")
    work = tmp_path / "work"
    count = f"mkdir -p $0 && echo x >> {tmp_path}/count"
    first = shell(count, files=(settings,))
    second = shell(count + " ", first)
    runner = Runner(work)
    runner.run(second)
    runner.run(second)
    assert len((tmp_path / "count").read_text().split()) == 2
    record = runner.done(second)
    assert record is not None and record.starts == 1
    settings.write_text("2")
    changed = shell(count, files=(settings,))
    assert changed.key != first.key
    assert shell(count + " ", changed).key != second.key
    assert dataclasses.replace(changed, places=(("given", "elsewhere"),)).key == changed.key


def test_a_failed_stage_says_where_its_output_is_and_runs_again(tmp_path: Path) -> None:
    stage = shell(f"test -e {tmp_path}/ready || (echo sad >&2; exit 3)")
    runner = Runner(tmp_path / "work")
    with pytest.raises(StageError, match=r"(?s)status 3.*sad"):
        runner.run(stage)
    assert runner.done(stage) is None
    (tmp_path / "ready").touch()
    runner.run(stage)
    record = runner.done(stage)
    assert record is not None and record.starts == 2


def test_a_stage_out_of_time_is_stopped_and_goes_on(tmp_path: Path) -> None:
    # Endless until the second start finds what the first left.
    stage = shell(f"test -e {tmp_path}/begun && exit 0; touch {tmp_path}/begun; while :; do sleep 0.05; done")
    with pytest.raises(OutOfTime):
        Runner(tmp_path / "work", minutes=1 / 60).run(stage)
    runner = Runner(tmp_path / "work")
    runner.run(stage)
    assert runner.done(stage) is not None


def test_a_command_that_says_preempted_is_not_done(tmp_path: Path) -> None:
    with pytest.raises(OutOfTime, match="goes on next time"):
        Runner(tmp_path / "work").run(shell("exit 75"))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_has_a_valid_config_and_an_equal_budget(variant: Variant, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "corpus.json").write_text("{}")
    road = build_road(given_corpus(corpus), variant, 3, BUDGETS["two-core"], ranks=1)
    words = road.pretrain.command(tmp_path)
    config = load_config(words[words.index("--config") + 1], words[words.index("--config") + 2 :])
    assert (config.run.seed, config.data.global_batch) == (3, BUDGETS["two-core"].batch)
    assert config.synthesis.clips == 7
    assert config.run.max_steps == (BUDGETS["two-core"].steps if variant.trained else 30)
    assert len({stage.key for stage in road.stages}) == len(road.stages)


def row(variant: str, seed: int, value: float) -> Row:
    figures = {key: value for key, _, _ in FIGURES}
    return Row(variant=variant, seed=seed, figures=figures, seconds={}, commits={}, machine="", steps=[])


def test_table_gives_mean_and_half_range_and_orderings_tell_clear_from_undecided() -> None:
    rows = [
        row("random", 0, 1.0),
        row("random", 1, 3.0),
        row("moco", 0, 9.0),
        row("pal", 0, 4.0),
        row("pal", 1, 5.0),
    ]
    summary = summarise(rows)
    assert [entry["variant"] for entry in summary] == ["random", "moco", "pal"]
    assert cell(summary[0]["average_mAP"], 2) == "2.00 ± 1.00"
    assert cell(summary[1]["average_mAP"], 2) == "9.00"
    found = {(entry["above"], entry["below"]): entry for entry in orderings(summary, "AUC")}
    assert found["pal", "random"]["holds"] and found["pal", "random"]["clear"]
    assert not found["pal", "moco"]["holds"] and not found["pal", "moco"]["clear"]  # one seed of MoCo
    assert ("pal", "tac") not in found
    assert "| PAL (#4) | 2 | 4.50 ± 0.50 |" in markdown(summary)


def test_orderings_of_two_budgets_are_put_side_by_side() -> None:
    here = summarise([row("random", 0, 1.0), row("moco", 0, 3.0), row("pal", 0, 4.0)])
    there = summarise(
        [row(name, seed, auc) for name, auc in (("random", 1.0), ("pal", 0.5)) for seed in (0, 1)]
    )
    assert both_ways(here, there, "AUC") == [
        {
            "above": "pal",
            "below": "random",
            "gap": 3.0,
            "other_gap": -0.5,
            "same": False,
            "clear": False,
            "other_clear": True,
        }
    ]


def test_scores_of_all_classes_sum_up_to_those_of_the_proposals(tmp_path: Path) -> None:
    rows = [
        {"segment": [1.0, 4.0], "score": 0.5, "label": "a"},
        {"segment": [0.0, 2.0], "score": 0.3, "label": "b"},
        {"segment": [1.0, 4.0], "score": 0.25, "label": "b"},
    ]
    assert merge(rows) == [
        {"segment": [1.0, 4.0], "score": 0.75, "label": "action"},
        {"segment": [0.0, 2.0], "score": 0.3, "label": "action"},
    ]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/predictions.json").write_text(json.dumps({"results": {"v": rows}}))
    annotations = [{"segment": [1.0, 4.0], "label": "z"}]
    truth = {"database": {"v": {"subset": "validation", "duration": 9, "annotations": annotations}}}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    words = [
        "--run",
        str(tmp_path / "run"),
        "--ground-truth",
        str(tmp_path / "truth.json"),
        "--out",
        str(tmp_path),
    ]
    assert agnostic.main(words) == 0
    assert json.loads((tmp_path / "agnostic.json").read_text())["average_mAP"] == pytest.approx(100.0)


def test_share_of_variance_between_videos_by_hand(tmp_path: Path) -> None:
    for name, values in (("a", [[0.0], [2.0]]), ("b", [[4.0], [6.0]])):
        np.save(tmp_path / array_name(name), np.array(values, dtype=np.float32))
        sidecar = Sidecar(
            id=name, source=name, fps=8.0, clip_frames=8, stride=8, offset=0, duration=2.0, frames=16, padded=0,
            features=2, feature_dim=1, sampling="native", crop="centre", size=32, checkpoint="none",
        )  # fmt: skip
        (tmp_path / sidecar_name(name)).write_bytes(sidecar.to_json())
    # Between: 4 rows each 2 from the mean of 3; within: 4 rows each 1 from their video's mean.
    assert scene_share(FeatureStore(str(tmp_path))) == pytest.approx(100 * 16 / 20)


def test_changes_and_the_same_video_by_hand() -> None:
    draw = np.random.default_rng(0)
    looks = draw.normal(size=(4, 1, 8)).astype(np.float32)
    moves = np.array([-1.0, 1.0, -1.0, 1.0], dtype=np.float32)[:, None] * np.eye(8, dtype=np.float32)[0]
    videos = [100 * look + moves for look in looks]
    assert changes(videos, 2) == pytest.approx(np.tile(moves[:2].reshape(-1), (4, 1)), abs=1e-4)
    assert same_video(videos) == 100
    # Videos that look alike: only the moves differ between even and odd features, and they are nobody's own.
    assert same_video([moves + 0 * look for look in looks]) == 25


def test_neighbours_and_regression_name_separate_classes() -> None:
    draw = np.random.default_rng(0)
    classes = [number % 3 for number in range(60)]
    rows = (5 * np.eye(3)[classes] + 0.1 * draw.normal(size=(60, 3))).astype(np.float32)
    split = (rows[:40], classes[:40], rows[40:], classes[40:])
    assert knn_accuracy(*split, classes=3) == 100
    assert linear_accuracy(*split, classes=3) == 100
    swapped = [(number + 1) % 3 for number in classes[40:]]
    assert knn_accuracy(*split[:3], swapped, classes=3) == 0


def test_command_plans_and_reports_without_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "corpus.json").write_text("{}")
    words = ["--work", str(tmp_path / "work"), "--corpus", str(corpus), "--variants", "pal", "--seeds", "0"]
    assert main([*words, "--plan"]) == 0
    plan = capsys.readouterr().out
    assert plan.count("to do") == 10
    assert f"run.max_steps={BUDGETS['two-core'].steps}" in plan
    assert main([*words, "--set", "steps=7", "--plan"]) == 0
    assert "run.max_steps=7" in capsys.readouterr().out
    assert main([*words, "--report-only", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == ["pal seed 0"]
    assert "Not run: pal seed 0." in (tmp_path / "work/index.html").read_text()
    assert main([*words, "--report-only", "--beside", "steps=7"]) == 0
    assert "The same with steps=7" in (tmp_path / "work/index.html").read_text()
    assert main([*words, "--set", "stepz=7"]) == 2
    assert main([*words, "--report-only", "--beside", "7"]) == 2
    assert main(["--work", str(tmp_path), "--corpus", str(tmp_path / "none")]) == 2
