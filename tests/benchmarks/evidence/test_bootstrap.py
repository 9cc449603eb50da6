"""A figure with weights is the figure of a set in which videos are repeated so often."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence.measures.bootstrap import Precision, RocArea, Share, measure, video_draws
from benchmarks.evidence.measures.detections import THRESHOLDS, detection_figures, proposal_figures
from pal_ds.transfer.action_probe import auc
from pal_ds.transfer.datasets.annotations import Segment, VideoAnnotation
from pal_ds.transfer.metrics.detection import average_precision, evaluate_detection
from pal_ds.transfer.metrics.prediction_files import from_annotations, read_predictions

WEIGHTS = np.array([2.0, 0.0, 1.0, 3.0])


def repeated(video_n: np.ndarray) -> np.ndarray:
    """Rows of the set in which video v stands ``WEIGHTS[v]`` times, in the rows' order."""
    return np.repeat(np.arange(len(video_n)), WEIGHTS[video_n].astype(int))


def test_weighted_roc_area_and_precision_are_those_of_the_repeated_set() -> None:
    rng = np.random.default_rng(0)
    video_n = rng.integers(0, 4, 200)
    score_n, positive_n = rng.integers(0, 30, 200).astype(float), rng.random(200) < 0.4
    rows = repeated(video_n)
    area = RocArea(score_n, positive_n, video_n)
    assert area.value(WEIGHTS) == pytest.approx(auc(score_n[rows], positive_n[rows]))
    assert area.value(np.ones(4)) == pytest.approx(auc(score_n, positive_n))
    order = np.argsort(-score_n, kind="stable")
    hits, videos = positive_n[order], video_n[order]
    found = np.bincount(videos, weights=hits, minlength=4)
    same = repeated(videos)
    weighted = Precision(hits, videos, found + 1).value(WEIGHTS)
    assert weighted == pytest.approx(100 * average_precision(hits[same], int(WEIGHTS @ (found + 1))), abs=0.5)


def test_share_counts_weights_above_and_below() -> None:
    share = Share([1, 5, 2, 0], [2, 5, 4, 1])
    assert share.value(WEIGHTS) == pytest.approx(100 * 4 / 11)
    assert share.value(np.zeros(4)) == 0


def test_draws_are_shared_by_all_figures_of_as_many_videos() -> None:
    first, second = (measure(Share(values, np.ones(3)), 3) for values in ([1, 0, 0], [0, 1, 1]))
    assert np.add(first["draws"], second["draws"]) == pytest.approx(100)
    assert first["value"] == pytest.approx(100 / 3)
    assert np.std(first["draws"]) == pytest.approx(100 * np.sqrt(2 / 9 / 3), rel=0.1)
    assert (video_draws(3).sum(axis=1) == 3).all()


def made(tmp_path: Path) -> tuple[tuple[VideoAnnotation, ...], Path]:
    rng = np.random.default_rng(1)
    annotations, results = [], {}
    for number in range(6):
        spans = np.sort(rng.uniform(0, 60, (3, 2)), axis=1)
        segments = () if number == 2 else tuple(
            Segment(start=float(a), end=float(b), label="xy"[kind]) for kind, (a, b) in enumerate(spans[:2])
        )  # fmt: skip
        annotations.append(
            VideoAnnotation(video=f"v{number}", segments=segments, duration=60.0, fps=25.0, subset="s")
        )
        near = spans[rng.integers(0, 3, 8)] + rng.normal(0, 2, (8, 2))
        results[f"v{number}"] = [
            {"segment": sorted(map(float, row)), "label": "xy"[n % 2], "score": float(rng.random())}
            for n, row in enumerate(np.clip(near, 0, 60))
        ]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"results": results}))
    return tuple(annotations), path


def test_unweighted_detections_are_those_of_the_official_evaluation(tmp_path: Path) -> None:
    annotations, path = made(tmp_path)
    figures = detection_figures(annotations, path, "head")
    official = evaluate_detection(
        from_annotations(annotations), read_predictions(str(path), labelled=True), THRESHOLDS
    )
    ones = np.ones(len(annotations))
    assert figures["head_map"].value(ones) == pytest.approx(official.average_map)
    assert figures["head_map50"].value(ones) == pytest.approx(official.map_k[0])
    assert 0 < official.average_map < 100


def test_a_video_without_weight_does_not_count(tmp_path: Path) -> None:
    annotations, path = made(tmp_path)
    weights = np.array([1.0, 1, 1, 0, 1, 1])
    without = tuple(one for one in annotations if one.video != "v3")
    results = json.loads(path.read_text())["results"]
    del results["v3"]
    less = tmp_path / "less.json"
    less.write_text(json.dumps({"results": results}))
    for figure in (detection_figures, lambda *given: proposal_figures(*given[:2])):
        whole, part = figure(annotations, path, "h"), figure(without, less, "h")
        for name, one in whole.items():
            assert one.value(weights) == pytest.approx(part[name].value(np.ones(5)))
