import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.transfer.metrics.detection import average_precision, match
from pal_ds.transfer.metrics.evaluate import evaluate
from pal_ds.transfer.metrics.tiou import parse_thresholds, threshold_name, tiou
from tests.support import slow_reference as reference
from tests.support.official_form import invent, write

ANET = np.linspace(0.5, 0.95, 10)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("coarse", [False, True])
def test_detection_equals_the_definition(tmp_path, seed, coarse):
    database, results = invent(seed, videos=20, coarse=coarse)
    if coarse:
        # Equal overlaps with different instances are a tie that the definition leaves open; here: file order.
        database = {video: rows[:1] for video, rows in database.items()}
    report = evaluate("detection", *write(tmp_path, database, results))
    expected = reference.detection(database, results, ANET)
    figures = report.figures
    assert list(figures) == ["mAP", "tiou", "average_mAP"]
    assert figures["mAP"] == pytest.approx(expected, abs=1e-6)
    assert figures["average_mAP"] == pytest.approx(sum(expected) / 10, abs=1e-6)
    assert figures["tiou"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert max(expected) > 0


@pytest.mark.parametrize("seed", range(100, 106))
def test_thumos_thresholds(tmp_path, seed):
    database, results = invent(seed)
    report = evaluate(
        "detection", *write(tmp_path, database, results, "Test"), subset="Test", tiou="0.3:0.7:0.1"
    )
    expected = reference.detection(database, results, np.linspace(0.3, 0.7, 5))
    assert report.figures["mAP"] == pytest.approx(expected, abs=1e-6)
    assert report.figures["tiou"] == [0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("coarse", [False, True])
def test_proposals_equal_the_definition(tmp_path, seed, coarse):
    database, results = invent(seed, videos=6, coarse=coarse)
    figures = evaluate("proposals", *write(tmp_path, database, results)).figures
    recall, area = reference.proposals(database, results, ANET)
    assert list(figures) == ["AR", "AUC"]
    assert list(figures["AR"]) == ["1", "5", "10", "100"]
    assert list(figures["AR"].values()) == pytest.approx(
        [recall[0], recall[4], recall[9], recall[99]], abs=1e-6
    )
    assert figures["AUC"] == pytest.approx(area, abs=1e-6)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20), st.integers(0, 20), st.one_of(st.none(), st.tuples(*[st.integers(0, 20)] * 2))
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_grounding_equals_the_definition(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("grounding")
    spans = [(float(min(a, b)), float(max(a, b))) for a, b, _ in rows]
    answers = [None if c is None else (float(min(c)), float(max(c))) for _, _, c in rows]
    lines = [f"V{i % 3} {s} {e}##query {i}." for i, (s, e) in enumerate(spans)]
    (folder / "truth.txt").write_text("\n".join(lines) + "\n")
    results = {}
    for i, answer in enumerate(answers):
        if answer is not None:
            results.setdefault(f"V{i % 3}", []).extend(
                [
                    {"segment": [0, 1000], "score": 0.1, "sentence": f"query {i}."},
                    {"segment": list(answer), "score": 0.9, "sentence": f"query {i}."},
                    {"segment": [0, 1], "score": 0.9, "sentence": f"query {i}."},
                ]
            )
    (folder / "predictions.json").write_text(json.dumps({"results": results}))
    figures = evaluate("grounding", str(folder / "truth.txt"), str(folder / "predictions.json")).figures
    recall, mean = reference.grounding(spans, answers, [0.3, 0.5, 0.7])
    assert list(figures["R@1"]) == ["0.3", "0.5", "0.7"]
    assert list(figures["R@1"].values()) == pytest.approx(recall, abs=1e-6)
    assert figures["mIoU"] == pytest.approx(mean, abs=1e-6)


def test_greedy_matching_is_the_sequential_one():
    draw = np.random.default_rng(0)
    for _ in range(300):
        predictions, targets = draw.integers(1, 12), draw.integers(1, 7)
        scores = np.round(draw.random((predictions, targets)), 1)
        rank, target = np.nonzero(scores >= 0.4)
        order = np.lexsort((target, -scores[rank, target], rank))
        taken, expected = set(), []
        for p in range(predictions):
            free = [g for g in range(targets) if scores[p, g] >= 0.4 and g not in taken]
            if free:
                taken.add(max(free, key=lambda g: (scores[p, g], -g)))
                expected.append(p)
        assert match(rank[order], target[order], targets).tolist() == expected


def test_matching_prefers_the_free_instance_overlapped_most(tmp_path):
    # By hand: the second prediction overlaps instance 0 most, but it's taken; instance 1 (tIoU 6/10) is free.
    database = {"v": [([0.0, 10.0], "x"), ([4.0, 14.0], "x")]}
    results = {
        "v": [
            {"segment": [0.0, 10.0], "label": "x", "score": 0.9},
            {"segment": [2.0, 10.0], "label": "x", "score": 0.8},
        ]
    }
    figures = evaluate("detection", *write(tmp_path, database, results), tiou="0.5").figures
    assert figures["mAP"] == [100.0]
    assert evaluate("detection", *write(tmp_path, database, results), tiou="0.7").figures["mAP"] == [50.0]


def test_average_precision_by_hand():
    # hit, miss, hit of 3 instances: 1/3 × 1 + 1/3 × 2/3
    assert average_precision(np.array([True, False, True]), 3) == pytest.approx(1 / 3 + 2 / 9)
    assert average_precision(np.zeros(0, dtype=bool), 3) == 0.0


def test_equal_scores_count_in_the_order_of_the_file(tmp_path):
    database = {"v": [([0.0, 10.0], "x")]}
    right = {"segment": [0.0, 10.0], "label": "x", "score": 0.5}
    wrong = {"segment": [50.0, 60.0], "label": "x", "score": 0.5}
    first = evaluate("detection", *write(tmp_path, database, {"v": [right, wrong]}))
    last = evaluate("detection", *write(tmp_path, database, {"v": [wrong, right]}))
    assert (first.figures["average_mAP"], last.figures["average_mAP"]) == (100.0, 50.0)


def test_zero_length_segments_match_only_their_equal(tmp_path):
    """The official code divides 0 by 0 here and counts the NaN as a hit wherever they lie (docs/transfer.md)."""
    database = {"v": [([5.0, 5.0], "x"), ([7.0, 9.0], "x")]}
    equal = {"v": [{"segment": [5.0, 5.0], "label": "x", "score": 0.9}]}
    other = {"v": [{"segment": [6.0, 6.0], "label": "x", "score": 0.9}]}
    assert evaluate("detection", *write(tmp_path, database, equal)).figures["average_mAP"] == 50.0
    assert evaluate("detection", *write(tmp_path, database, other)).figures["average_mAP"] == 0.0
    # In its proposal task the official code's NaN is a miss.
    assert evaluate("proposals", *write(tmp_path, database, equal)).figures["AR"]["100"] == 0.0
    assert tiou(np.array([5.0, 5.0]), np.array([90.0, 90.0])) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_annotations_scored_against_themselves_give_100(tmp_path, seed):
    database, _ = invent(seed)
    results = {
        v: [{"segment": s, "label": name, "score": 1.0} for s, name in rows] for v, rows in database.items()
    }
    assert evaluate("detection", *write(tmp_path, database, results)).figures["mAP"] == [100.0] * 10


def test_strangers_are_warned_about(tmp_path):
    database = {"v": [([0.0, 10.0], "x")]}
    results = {
        "v_v": [{"segment": [0.0, 10.0], "label": "x", "score": 0.9}],
        "v": [{"segment": [0.0, 10.0], "label": "other", "score": 0.9}],
    }
    report = evaluate("detection", *write(tmp_path, database, results))
    assert report.figures["average_mAP"] == 0.0
    assert any("'v_v'" in line for line in report.warnings)
    assert any("'other'" in line for line in report.warnings)


def test_no_predictions_score_zero(tmp_path):
    database = {"v": [([0.0, 10.0], "x")]}
    assert evaluate("detection", *write(tmp_path, database, {})).figures["average_mAP"] == 0.0
    assert evaluate("proposals", *write(tmp_path, database, {})).figures == {
        "AR": {"1": 0.0, "5": 0.0, "10": 0.0, "100": 0.0},
        "AUC": 0.0,
    }


def test_classification_by_hand(tmp_path):
    database = {f"v{i}": [([0.0, 1.0], "a"), ([1.0, 2.0], "b")] for i in range(4)}
    results = {
        "v0": [{"label": "a", "score": 0.9}, {"label": "c", "score": 0.1}],
        "v1": [{"label": "c", "score": 0.9}, {"label": "b", "score": 0.1}],
        "v2": [{"label": name, "score": 1.0 - i / 10} for i, name in enumerate("cdefghb")],
        "odd": [{"label": "a", "score": 1.0}],
    }
    assert evaluate("classification", *write(tmp_path, database, results)).figures == {
        "top1": 25.0,
        "top5": 50.0,
    }


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5:0.95:0.05", np.linspace(0.5, 0.95, 10)),
        ("0.3:0.7:0.1", np.linspace(0.3, 0.7, 5)),
        ("0.3:0.7:0.2", np.array([0.3, 0.5, 0.7])),
        ("0.75", np.array([0.75])),
        ("0.5:0.5:0.1", np.array([0.5])),
    ],
)
def test_thresholds_include_the_stop(text, values):
    assert parse_thresholds(text).tolist() == values.tolist()


@pytest.mark.parametrize(
    "text", ["", "0.5:0.95", "0.9:0.5:0.1", "0:1:0.1", "0.5:0.95:0.1", "a:b:c", "nan:nan:nan"]
)
def test_wrong_thresholds_are_refused(text):
    with pytest.raises(ValueError, match="tiou = "):
        parse_thresholds(text)


def test_threshold_names():
    assert [threshold_name(value) for value in np.linspace(0.1, 0.5, 5)] == [
        "0.1",
        "0.2",
        "0.3",
        "0.4",
        "0.5",
    ]


segments = st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)).map(sorted)


@given(segments, segments)
def test_overlap_is_symmetric_and_bounded(a, b):
    value = float(tiou(np.array(a), np.array(b)))
    assert value == pytest.approx(float(tiou(np.array(b), np.array(a))))
    assert 0.0 <= value <= 1.0 + 1e-9
    assert math.isclose(float(tiou(np.array(a), np.array(a))), 1.0 if a[1] > a[0] else 0.0)
