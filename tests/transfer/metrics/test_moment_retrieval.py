"""Recall@kx against its definition, written out, and detections of benchmarks with submissions of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.transfer.metrics.evaluate import evaluate
from pal_ds.transfer.metrics.html_page import render
from pal_ds.transfer.metrics.moment_retrieval import evaluate_retrieval
from pal_ds.transfer.metrics.prediction_files import from_annotations, read_predictions
from pal_ds.transfer.metrics.tiou import parse_thresholds
from tests.support.official_form import invent, write

THRESHOLDS = (0.3, 0.5, 0.7)


def slow_recall(database: dict[str, Any], results: dict[str, Any], multiple: int, threshold: float) -> float:
    """Of every moment: is it overlapped by more than the threshold by one of the first k * n answers?"""
    found = []
    for video, moments in database.items():
        for label in {name for _, name in moments}:
            spans = [span for span, name in moments if name == label]
            answers = [row for row in results.get(video, []) if row["label"] == label]
            answers = sorted(answers, key=lambda row: -row["score"])[: multiple * len(spans)]
            found += [any(overlap(row["segment"], span) > threshold for row in answers) for span in spans]
    return 100.0 * sum(found) / len(found)


def overlap(one: list[float], two: list[float]) -> float:
    shared = max(0.0, min(one[1], two[1]) - max(one[0], two[0]))
    union = (two[1] - two[0]) + (one[1] - one[0]) - shared
    return shared / union if union > 0 else 0.0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), coarse=st.booleans())
def test_recall_is_what_its_definition_says(
    tmp_path_factory: pytest.TempPathFactory, seed: int, coarse: bool
) -> None:
    database, results = invent(seed, coarse=coarse)
    truth, predictions = write(tmp_path_factory.mktemp("recall"), database, results)
    figures: Any = evaluate("retrieval", truth, predictions).figures["recall"]
    for multiple in (1, 3, 5):
        for threshold in THRESHOLDS:
            wanted = slow_recall(database, results, multiple, threshold)
            assert figures[f"{multiple}x"][f"{threshold:g}"] == pytest.approx(wanted)


def test_an_overlap_of_exactly_the_threshold_finds_nothing(tmp_path: Path) -> None:
    rows = [{"segment": [0.0, 1.0], "label": "a", "score": 0.5}]
    truth, predictions = write(tmp_path, {"v": [([0.0, 2.0], "a")]}, {"v": rows})
    recall: Any = evaluate("retrieval", truth, predictions).figures["recall"]
    assert (recall["1x"]["0.3"], recall["1x"]["0.5"]) == (100.0, 0.0)


def test_no_annotated_moment_is_told(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path, {"v": [([0, 1], "a")]}, {})
    guesses = read_predictions(predictions, labelled=True)
    with pytest.raises(ValueError, match="no annotated instance"):
        evaluate_retrieval(from_annotations(()), guesses, parse_thresholds("0.5"))
    assert "Recall@5x, tIoU 0.7" in evaluate("retrieval", truth, predictions).table()


def test_its_page_has_the_table(tmp_path: Path) -> None:
    database, results = invent(5)
    page = render(evaluate("retrieval", *write(tmp_path, database, results)))
    assert "Moment retrieval" in page
    assert "Recall@2x" in page


CLIPS = {
    "one": [("a", 0.0, 10.0), ("b", 2.0, 4.0)],
    "two": [("a", 1.0, 2.0)],
}


@pytest.fixture
def moments(tmp_path: Path) -> str:
    clips = [
        {
            "clip_uid": name,
            "video_start_sec": 0,
            "video_end_sec": 20,
            "annotations": [
                {
                    "labels": [
                        {"label": x, "start_time": s, "end_time": e, "primary": True} for x, s, e in rows
                    ]
                }
            ],
        }
        for name, rows in CLIPS.items()
    ]
    path = tmp_path / "moments_val.json"
    path.write_text(json.dumps({"videos": [{"split": "val", "clips": clips}]}))
    return str(path)


def rows_of(name: str) -> list[dict[str, Any]]:
    return [{"segment": [s, e], "label": x, "score": 0.5} for x, s, e in CLIPS[name]]


def test_a_challenge_file_holds_both_answers_of_ego4d(moments: str, tmp_path: Path) -> None:
    """Detections are complete; of the retrievals one clip is missing."""
    submission = {
        "version": "1.0",
        "challenge": "ego4d_moment_queries",
        "detect_results": {name: rows_of(name) for name in CLIPS},
        "retrieve_results": {"one": rows_of("one")},
    }
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(submission))
    detection = evaluate("detection", moments, str(path), dataset="ego4d_mq").figures
    assert detection["tiou"] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert detection["average_mAP"] == 100.0
    recall: Any = evaluate("retrieval", moments, str(path), dataset="ego4d_mq").figures["recall"]
    assert recall["1x"]["0.5"] == pytest.approx(200 / 3)


EPIC = """narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class
P01_11_0,P01_11,00:00:00.00,00:00:02.00,3,5
P01_11_1,P01_11,00:00:04.00,00:00:06.00,4,5
"""


@pytest.mark.parametrize(("kind", "score"), [("verb", 50.0), ("noun", 100.0), ("action", 50.0)])
def test_a_challenge_file_of_epic_kitchens_is_scored_by_what_it_names(
    kind: str, score: float, tmp_path: Path
) -> None:
    """The second verb is wrong, both nouns are right."""
    truth, predictions = tmp_path / "EPIC_100_validation.csv", tmp_path / "submission.json"
    truth.write_text(EPIC)
    rows = [
        {"segment": [0.0, 2.0], "verb": 3, "noun": 5, "action": "3,5", "score": 0.9},
        {"segment": [4.0, 6.0], "verb": 7, "noun": 5, "action": "7, 5", "score": 0.8},
    ]
    predictions.write_text(json.dumps({"version": "0.2", "sls_pt": 1, "results": {"P01_11": rows}}))
    report = evaluate("detection", str(truth), str(predictions), dataset=f"epic_kitchens_{kind}")
    assert report.figures["average_mAP"] == score
    assert report.figures["tiou"] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_row_without_a_class_is_told_whatever_the_form(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"results": {"v": [{"segment": [0, 1], "verb": None, "score": 0.1}]}}))
    with pytest.raises(ValueError, match="prediction 0: has no 'label'"):
        read_predictions(str(path), labelled=True, class_field="verb")


def test_a_prefix_is_left_out_of_names(tmp_path: Path) -> None:
    row = {"segment": [0, 1], "label": "a", "score": 0.1}
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"results": {"v_1": [row], "1": [row, row], "2": [row]}}))
    read = read_predictions(str(path), labelled=True, prefix="v_")
    assert read.videos == ("1", "2")
    assert np.bincount(read.video).tolist() == [3, 1]


def test_a_data_set_has_no_effect_on_grounding(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("v 0 1##a\n")
    with pytest.raises(ConfigError, match="has no effect with grounding"):
        evaluate("grounding", str(tmp_path / "c.txt"), "p.json", dataset="hacs")
