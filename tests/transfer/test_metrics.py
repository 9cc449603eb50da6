import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import slow_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.transfer.metrics.detection import average_precision, match
from pal_ds.transfer.metrics.segments import parse_thresholds, threshold_name, tiou
from pal_ds.transfer.metrics.tasks import evaluate

ANET = np.linspace(0.5, 0.95, 10)


def invent(seed, *, videos=9, labels=4, coarse=False):
    """Random ground truth and predictions with ties, repeats, gaps, strangers and zero lengths."""
    draw = random.Random(seed)

    def span(around=None):
        if around is not None and draw.random() < 0.7:
            wobble = [value + draw.gauss(0, 1.5) for value in around]
            start, end = sorted(max(0.0, value) for value in wobble)
        else:
            start = draw.uniform(0, 50)
            end = start + draw.choice([0.0, draw.uniform(0, 30)])
        return [float(round(start)), float(round(end))] if coarse else [start, end]

    names = [f"class {number}" for number in range(labels)]
    database, results = {}, {}
    for number in range(videos):
        video = f"video_{number}"
        database[video] = [(span(), draw.choice(names)) for _ in range(draw.randint(1, 6))]
        if draw.random() < 0.2:
            database[video].append(database[video][0])
        if draw.random() < 0.15:
            continue
        rows = []
        for _ in range(draw.choice([0, 3, 40, 140])):
            near = draw.choice(database[video])
            label = near[1] if draw.random() < 0.8 else draw.choice(names)
            score = draw.choice([draw.random(), round(draw.random(), 1), 0.5])
            rows.append({"segment": span(near[0]), "label": label, "score": score})
        if rows and draw.random() < 0.5:
            rows.append(dict(rows[0]))
        results[video] = rows
    results["stranger"] = [
        {"segment": span(), "label": draw.choice(names), "score": draw.random()}
        for _ in range(draw.randint(0, 50))
    ]
    return database, results


def write(folder, database, results, subset="validation"):
    """Write both in the official form; other subsets hold what must not count."""
    form = {
        video: {
            "subset": subset,
            "duration": 100.0,
            "annotations": [{"segment": segment, "label": label} for segment, label in rows],
        }
        for video, rows in database.items()
    }
    decoy = [{"segment": [0, 1], "label": "decoy class"}]
    form["elsewhere"] = {"subset": "training", "duration": 9.0, "annotations": decoy}
    form["hidden"] = {"subset": "testing", "duration": 9.0, "annotations": []}
    truth, predictions = folder / "truth.json", folder / "predictions.json"
    truth.write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": form}))
    predictions.write_text(json.dumps({"version": "1.3", "results": results, "external_data": {}}))
    return str(truth), str(predictions)


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


def test_zero_length_segments_never_match(tmp_path):
    """The official code divides 0 by 0 here and counts the NaN as a hit; we say 0 (docs/transfer.md)."""
    database = {"v": [([5.0, 5.0], "x"), ([7.0, 9.0], "x")]}
    results = {"v": [{"segment": [5.0, 5.0], "label": "x", "score": 0.9}]}
    assert evaluate("detection", *write(tmp_path, database, results)).figures["average_mAP"] == 0.0
    assert tiou(np.array([5.0, 5.0]), np.array([90.0, 90.0])) == 0.0


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


def run(*arguments):
    command = [sys.executable, "-m", "pal_ds.transfer.metrics.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_prints_one_object(tmp_path):
    database, results = invent(3)
    truth, predictions = write(tmp_path, database, results)
    done = run("detection", "--ground-truth", truth, "--predictions", predictions, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == evaluate("detection", truth, predictions).figures
    table = run("detection", "--ground-truth", truth, "--predictions", predictions)
    assert "average mAP" in table.stdout
    assert table.returncode == 0


def test_help_teaches_and_never_imports_torch():
    program = (
        "import sys; from pal_ds.transfer.metrics.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "import pal_ds.transfer.metrics.tasks\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "charades_sta_test.txt" in done.stdout


ROW = {"segment": [0, 1], "label": "a", "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "isn't JSON"),
        ("[]", "'results'"),
        ('{"database": {}}', "'results'"),
        (json.dumps({"results": {"v": {}}}), "video 'v'"),
        (json.dumps({"results": {"v": [ROW, {**ROW, "score": None}]}}), "prediction 1: score = None"),
        (json.dumps({"results": {"v": [{**ROW, "score": float("nan")}]}}), "score = nan"),
        (json.dumps({"results": {"v": [{**ROW, "segment": [2, 1]}]}}), "ends before it starts"),
        (json.dumps({"results": {"v": [{**ROW, "segment": [1]}]}}), "isn't [start, end]"),
        (json.dumps({"results": {"v": [{**ROW, "segment": "ab"}]}}), "isn't [start, end]"),
        (json.dumps({"results": {"v": [{"segment": [0, 1], "score": 1.0}]}}), "has no 'label'"),
        (json.dumps({"results": {"v": [{**ROW, "label": ["x"]}]}}), "has no 'label'"),
        (json.dumps({"results": {"v": [{**ROW, "label": 3}]}}), "has no 'label'"),
        (json.dumps({"results": {"v": ["text"]}}), "isn't an object"),
    ],
)
def test_malformed_predictions_are_one_line_and_exit_2(tmp_path, capsys, content, message):
    from pal_ds.transfer.metrics.cli import main

    truth, predictions = write(tmp_path, {"v": [([0, 1], "a")]}, {})
    (tmp_path / "predictions.json").write_text(content)
    assert main(["detection", "--ground-truth", truth, "--predictions", predictions, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert "predictions.json" in err


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("detection", "gt.json", '{"results": {}}', "'database'"),
        (
            "detection",
            "gt.json",
            '{"database": {"v": {"subset": "Test", "annotations": []}}}',
            "it has Test (1)",
        ),
        (
            "detection",
            "gt.json",
            '{"database": {"v": {"subset": "validation", "annotations": []}}}',
            "no annotated instance",
        ),
        ("detection", "gt.csv", "a,b\n1,2\n", "no column 'video-name'"),
        ("grounding", "gt.txt", "V 1.0 2.0 no mark\n", "line 1"),
        ("grounding", "gt.txt", "V 1.0 x##words\n", "line 1"),
        (
            "grounding",
            "gt.json",
            '{"database": {"v": {"subset": "validation", "annotations": [{}]}}}',
            "'sentence'",
        ),
    ],
)
def test_malformed_ground_truth_is_one_line_and_exit_2(tmp_path, capsys, task, name, content, message):
    from pal_ds.transfer.metrics.cli import main

    (tmp_path / name).write_text(content)
    (tmp_path / "p.json").write_text('{"results": {}}')
    status = main([task, "--ground-truth", str(tmp_path / name), "--predictions", str(tmp_path / "p.json")])
    _, err = capsys.readouterr()
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_missing_file_is_one_line_and_exit_2(tmp_path, capsys):
    from pal_ds.transfer.metrics.cli import main

    missing = str(tmp_path / "no.json")
    assert main(["proposals", "--ground-truth", missing, "--predictions", missing]) == 2
    assert "No such file" in capsys.readouterr().err


def test_answers_without_a_name_go_by_order(tmp_path):
    annotations = [{"segment": [0, 4], "sentence": "one"}, {"segment": [6, 9], "sentence": "two"}]
    database = {"v": {"subset": "validation", "annotations": annotations}}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    rows = [{"segment": [0, 4], "score": 0.1}, {"segment": [6, 9], "score": 0.9}]
    (tmp_path / "p.json").write_text(json.dumps({"results": {"v": rows}}))
    paths = str(tmp_path / "gt.json"), str(tmp_path / "p.json")
    assert evaluate("grounding", *paths).figures["mIoU"] == 100.0
    (tmp_path / "p.json").write_text(json.dumps({"results": {"v": [*rows, rows[0]]}}))
    with pytest.raises(ValueError, match="doesn't name one of its 2 queries"):
        evaluate("grounding", *paths)
