"""The demonstration's last step: an exported head, one unseen video, a page that the report links to."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from launch.demo.console import Console
from launch.demo.one_video import describe, first_unseen, localize_one, right_ones
from pal_ds.viz.report_page import ReportData, render
from tests.support.localizer_model import make_run


@pytest.mark.slow
def test_the_first_unseen_video_gets_a_page_that_the_report_links_to(tmp_path: Path) -> None:
    made = make_run(tmp_path / "made")
    truth = json.loads(made.truth.read_text())
    for name in ("clip1", "clip2"):
        truth["database"][name]["subset"] = "validation"
    (tmp_path / "moments.json").write_text(json.dumps(truth))
    shutil.copytree(made.videos, tmp_path / "mocap/untrimmed/videos")
    console = Console(tmp_path / "logs", 1, stream=io.StringIO())
    with console.stage("localize"):
        section, line = localize_one(console, tmp_path, encoder=str(made.encoder), head=made.run)
    assert section.link is not None
    page = tmp_path / section.link[0]
    assert "<video" in page.read_text()
    assert str(page) in line
    assert "clip1" in line
    report = render(ReportData(title="A run", sections=[section]))
    assert f'<a href="{section.link[0]}">Its page</a>' in report


def test_the_video_is_the_first_by_name_not_the_best() -> None:
    database = {
        "b": {"subset": "validation", "annotations": [{"segment": [1, 2]}]},
        "a": {"subset": "training", "annotations": []},
        "c": {"subset": "validation", "annotations": []},
    }
    assert first_unseen({"database": database}) == ("b", [[1, 2]])


def test_a_found_action_answers_for_one_annotated_action() -> None:
    assert right_ones([], [(0, 1)]) == 0
    assert right_ones([(0, 1)], []) == 0
    assert right_ones([(0, 10), (20, 30)], [(0, 9), (1, 10), (50, 60)]) == 1
    text, line = describe("x", [(0, 10), (20, 30)], [(0, 9), (20, 31)])
    for words in (text, line):
        assert "2 actions found, 2 annotated, 2 of these found at tIoU 0.5" in words
