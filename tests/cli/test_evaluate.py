import json
import subprocess
import sys

import pytest

from pal_ds.transfer.metrics.evaluate import evaluate
from tests.support.official_form import invent, write


def run(*arguments):
    command = [sys.executable, "-m", "pal_ds.cli.evaluate", *map(str, arguments)]
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
        "import sys; from pal_ds.cli.evaluate import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "import pal_ds.transfer.metrics.evaluate\n"
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
    from pal_ds.cli.evaluate import main

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
    from pal_ds.cli.evaluate import main

    (tmp_path / name).write_text(content)
    (tmp_path / "p.json").write_text('{"results": {}}')
    status = main([task, "--ground-truth", str(tmp_path / name), "--predictions", str(tmp_path / "p.json")])
    _, err = capsys.readouterr()
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_missing_file_is_one_line_and_exit_2(tmp_path, capsys):
    from pal_ds.cli.evaluate import main

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
