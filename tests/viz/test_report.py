"""The report: self-contained, escaped, and its numbers are those of the run folder."""

from __future__ import annotations

import base64
import html.parser
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pal_ds.cli.report import main
from pal_ds.viz.curves import MOST_POINTS, series, training_charts
from pal_ds.viz.learning_verdict import Finding, Verdict
from pal_ds.viz.report_page import Picture, ReportData, Section, StepRun, Table, duration, render
from pal_ds.viz.run_facts import collect_run


class Page(html.parser.HTMLParser):
    """Collects tags, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.anchors: set[str | None] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name == "id":
                self.anchors.add(value)
            if name in {"src", "href", "srcset", "action"}:
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rows(steps: int = 60, size: int = 64) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        fill = min(1.0, step * 8 / size)
        found.append(
            {
                "step": step,
                "loss": 4 - step / 40,
                "queue_fill": fill,
                "top1": step / 100,
                "lr": 1e-3,
                "positive_similarity": 0.5,
                "videos_per_second": 5.0,
                "data_wait": 0.1,
                "grad_norm": 1.0,
            }
        )
        if step % 20 == 0:
            found.append({"step": step, "val_loss": 4.2 - step / 40, "val_top1": 0.25})
    return found


def png() -> bytes:
    file = BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "run: {dir: 's3://key:secret@host/run'}\nqueue: {size: 64, mask_unfilled: true}\n"
        "model: {backbone: i3d, width: 0.25}\nprecision: fp32\n"
    )
    lines = [json.dumps(row) for row in rows()]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 61, "lo')
    events = [{"event": "start", "step": 0}, {"event": "preempted", "step": 30, "reason": "SIGTERM"},
              {"event": "resume", "step": 30, "world_size": 1},
              {"event": "replaced", "step": 31, "key": "x"}]  # fmt: skip
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "STATUS.json").write_text('{"state": "running", "step": 60}')
    return folder


def full() -> ReportData:
    picture = Picture(data=png(), alt="a square", see="see <this>", good="good", bad="bad")
    return ReportData(
        title="A <script>alert(1)</script> title", subtitle="sub", facts=[("State", "done & over")],
        verdict=Verdict(
            learned=False, headline="Has not learned: <why>", warnings=("look into it",),
            findings=(
                Finding(name="t", value=41.234, untrained=30.0, guess=1.5, gap=(4.2, 18.3), unit=" %", digits=1),
                Finding(name="loss", value=3.0, untrained=3.1, gap=(-0.1, 0.3)), Finding(name="free", value=1.0),
            ),
        ),
        metrics=rows(), queue_size=64, mask_unfilled=True, strips=[picture], similarity=[picture],
        events=[{"event": "resume", "step": 30}], steps=[StepRun(name="train", seconds=75)],
        corpus=Table(header=("video", "seconds"), rows=(("a", 1.5),)),
        sections=[Section(title="More", text="plain <b>", table=Table(header=("x",), rows=((1,),)), picture=picture)],
        config={"model": {"width": 0.25}}, versions={"torch": "2"},
    )  # fmt: skip


def test_page_fetches_nothing_runs_nothing_and_shows_every_picture() -> None:
    page = Page(render(full()))
    assert not {"script", "link:stylesheet", "iframe", "object", "form"} & set(page.tags)
    assert page.addresses
    anchors = {address.removeprefix("#") for address in page.addresses if address.startswith("#")}
    assert anchors and anchors <= page.anchors
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    pictures = [address for address in page.addresses if address != "data:," and not address.startswith("#")]
    assert len(pictures) == 3 + 2 * 6
    for address in pictures:
        head, body = address.split(",", 1)
        data = base64.b64decode(body, validate=True)
        if "svg" in head:
            root = ET.fromstring(data)
            assert root.tag.endswith("svg")
            linked = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
            assert all(link.startswith(("#", "data:")) for link in linked)
        else:
            Image.open(BytesIO(data)).verify()
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", render(full()))


def test_text_of_users_is_escaped() -> None:
    text = render(full())
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "plain &lt;b&gt;" in text
    assert "see &lt;this&gt;" in text


def test_every_figure_stands_beside_its_controls() -> None:
    words = " ".join(" ".join(Page(render(full())).words).split())
    assert "Has not learned: <why>" in words
    assert "41.2 %" in words
    assert "untrained 30.0 %" in words
    assert "a blind guess 1.5 %" in words
    assert "better than untrained: +4.2 to +18.3 % (99 %)" in words
    assert "no better than untrained: -0.10 to +0.30 (99 %)" in words
    assert words.count("better than untrained:") == 2
    assert "look into it" in words


def test_empty_report_is_a_page() -> None:
    page = Page(render(ReportData(title="Nothing yet")))
    assert "Nothing yet" in " ".join(page.words)
    assert "img" not in page.tags


def test_same_data_gives_the_same_page() -> None:
    assert render(full()) == render(full())


def test_run_folder_becomes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    data = collect_run(str(folder))
    assert data.verdict is not None
    assert data.verdict.learned is None, "this run has no validation at step 0"
    found = {one.name: one for one in data.verdict.findings}
    assert found["Held-out loss"].value == pytest.approx(4.2 - 1.5)
    assert found["Held-out right picks"].value == pytest.approx(25)
    out = tmp_path / "report.html"
    assert main([str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"report: {out}\n"
    text = out.read_text()
    assert "secret" not in text
    words = " ".join(" ".join(Page(text).words).split())
    assert "step 30 was asked to stop, saved its state and left (reason: SIGTERM)" in words
    assert "replaced: 1" in words


def test_folder_that_is_no_run_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "r.html")]) == 2
    assert "config.yaml" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_charts_without_data_are_left_out_and_alt_text_has_numbers() -> None:
    charts = training_charts(
        [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], queue_size=8, mask_unfilled=False
    )
    assert [chart.title for chart in charts] == ["Loss"]
    assert "from 2 to 1" in charts[0].text
    assert charts[0].light != charts[0].dark


def test_a_classifiers_guess_is_its_own_and_not_one_among_a_queue() -> None:
    rows = [
        {"step": step, "loss": 2.0 - step / 10, "top1": 0.1, "queue_fill": 1.0, "chance_loss": 2.1}
        for step in (1, 2)
    ]
    loss, picks, *_ = training_charts(rows, queue_size=65536, mask_unfilled=False)
    assert b"blind guess, training" in loss.light
    assert b"negatives" not in loss.light
    assert b"chance" not in picks.light
    assert "right answer" in loss.see
    contrast = [{**row, "positive_similarity": 0.5} for row in rows]
    loss, picks, *_ = training_charts(contrast, queue_size=65536, mask_unfilled=False)
    assert b"ln(1 + negatives)" in loss.light
    assert b"chance" in picks.light


def test_long_runs_are_averaged_in_bins_and_gaps_passed_over() -> None:
    long = [{"step": step, "loss": float(step % 2)} for step in range(10 * MOST_POINTS)]
    found = series(long, "loss", "x", "#2a6f97")
    assert found is not None
    assert len(found.steps) == MOST_POINTS
    np.testing.assert_allclose(found.values, 0.5)
    holes = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": None}, {"step": 3, "loss": float("nan")}]
    kept = series(holes, "loss", "x", "#2a6f97")
    assert kept is not None
    assert kept.steps.tolist() == [1.0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.42, "8.4 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (59.99, "60.0 s")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.slow
def test_browser_shows_it_without_a_console_message(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = tmp_path / "report.html"
    page.write_text(render(full()))
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}",
         "--enable-logging=stderr", "--window-size=1000,4000", f"--screenshot={shot}", page.as_uri()],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert shot.exists(), done.stderr
    assert "CONSOLE" not in done.stderr
    assert len(Image.open(shot).convert("RGB").getcolors(1 << 24) or []) > 50
