import json
import re

import numpy as np
import pytest

from pal_ds.cli.evaluate import main
from pal_ds.transfer.metrics.detection_errors import KINDS, break_down, hit_rows, reliability
from pal_ds.transfer.metrics.evaluate import evaluate

CASES = [  # one of each kind, by hand, in order of score
    ("true positive", {"segment": [0, 10], "label": "a", "score": 0.9}),
    ("double detection", {"segment": [0, 9], "label": "a", "score": 0.8}),
    ("wrong label", {"segment": [0, 10], "label": "b", "score": 0.7}),
    ("localization", {"segment": [7, 17], "label": "a", "score": 0.6}),
    ("confusion", {"segment": [7, 17], "label": "b", "score": 0.5}),
    ("background", {"segment": [50, 60], "label": "a", "score": 0.4}),
]


@pytest.fixture
def files(tmp_path):
    annotations = {
        "v": {"subset": "validation", "annotations": [{"segment": [0, 10], "label": "a"}]},
        "w": {"subset": "validation", "annotations": [{"segment": [0, 10], "label": "b"}]},
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": annotations}))
    (tmp_path / "p.json").write_text(json.dumps({"results": {"v": [row for _, row in CASES]}}))
    return str(tmp_path / "gt.json"), str(tmp_path / "p.json")


def test_kinds_of_error_by_hand(files):
    report = evaluate("detection", *files)
    counts = break_down(report.truth, report.predictions, threshold=0.5).counts_sk
    # Two annotated instances: two predictions a slice.
    assert [KINDS[kind] for row in counts for kind in np.flatnonzero(row)] == [name for name, _ in CASES]
    assert hit_rows(report.truth, report.predictions, 0.5).tolist() == [True] + [False] * 5


def test_reliability_by_hand():
    found = reliability(np.array([0.1, 0.9, 0.2, 0.8]), np.array([False, True, True, False]), bins=2)
    assert found.score_b.tolist() == pytest.approx([0.15, 0.85])
    assert found.precision_b.tolist() == [0.5, 0.5]
    assert found.error == pytest.approx(35.0)


def test_page_is_self_contained_and_escapes_names(files, tmp_path, capsys):
    text = (tmp_path / "gt.json").read_text().replace('"b"', '"<script>b</script>"')
    (tmp_path / "gt.json").write_text(text)
    page = tmp_path / "report.html"
    assert (
        main(["detection", "--ground-truth", files[0], "--predictions", files[1], "--html", str(page)]) == 0
    )
    html = page.read_text()
    assert "<script>" not in html
    assert "&lt;script&gt;b" in html
    assert html.count("<svg") == 2
    assert not re.search(r"(src|href)=\"https?:", html)
    assert "double detection" in html
    assert "average mAP" in capsys.readouterr().out


def test_pages_of_the_other_tasks_show_their_figures(files, tmp_path):
    queries = tmp_path / "queries.txt"
    queries.write_text("v 0.0 10.0##someone <b>jumps</b>\n")
    spans = {"results": {"v": [{"segment": [0, 5], "score": 1.0, "sentence": "someone <b>jumps</b>"}]}}
    (tmp_path / "spans.json").write_text(json.dumps(spans))
    for task, truth, predictions, wanted in (
        ("proposals", files[0], files[1], ["AUC", "AR@100", "Recall against the number of proposals"]),
        ("classification", files[0], files[1], ["top-1 50.00", "Taken for another"]),
        ("grounding", str(queries), str(tmp_path / "spans.json"), ["mIoU 50.00", "R@1, tIoU 0.5"]),
    ):
        page = tmp_path / f"{task}.html"
        assert main([task, "--ground-truth", truth, "--predictions", predictions, "--html", str(page)]) == 0
        html = page.read_text()
        assert all(text in html for text in wanted), task
        assert not re.search(r"(src|href)=\"https?:", html)
