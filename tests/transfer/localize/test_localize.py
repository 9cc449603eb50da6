"""``pal-localize``: what it writes, what it leaves out, how it goes on, and how it tells of what it can't do."""

import csv
import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from pal_ds import storage
from pal_ds.cli import transfer
from pal_ds.cli.localize import main
from pal_ds.transfer.localize import film, localizer
from pal_ds.transfer.metrics.evaluate import evaluate
from tests.support.extract_fixtures import ffmpeg, make_video, write_shard_set
from tests.support.fork_server import fork_server, run_python
from tests.support.localizer_model import make_action_video

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def localized(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("localized") / "out"
    assert (
        main([str(trained.videos), "--model", str(trained.model), "--out", str(out), "--device", "cpu"]) == 0
    )
    return out


def run(trained, out, *words):
    return main([*map(str, words), "--model", str(trained.model), "--out", str(out), "--device", "cpu"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def results(out):
    return json.loads((out / "results.json").read_text())["results"]


def test_from_files_to_the_actions_that_the_run_predicted(trained, localized):
    assert names(localized) == ["actions", "actions.csv", "index.html", "localize.json", "results.json"]
    kinds = ("csv", "html", "json", "vtt")
    assert names(localized / "actions") == [f"clip{n}.{kind}" for n in range(3) for kind in kinds]
    found, wanted = results(localized), trained.predictions()
    assert found.keys() == wanted.keys()
    for video, rows in wanted.items():
        assert [row["label"] for row in found[video]] == [row["label"] for row in rows]
        for name in ("segment", "score"):
            np.testing.assert_allclose([r[name] for r in found[video]], [r[name] for r in rows], rtol=1e-4)
    figures = evaluate(
        "detection", str(trained.truth), str(localized / "results.json"), subset="training"
    ).figures
    assert figures["average_mAP"] == pytest.approx(
        json.loads((trained.run / "result.json").read_text())["figures"]["average_mAP"]
    )


def test_tables_and_subtitles_hold_the_same(localized, trained):
    rows = list(csv.DictReader((localized / "actions.csv").open(newline="")))
    assert len(rows) == sum(len(each) for each in results(localized).values())
    record = json.loads((localized / "actions/clip1.json").read_text())
    threshold = record["external_data"]["threshold"]
    shown = [row for row in record["results"]["clip1"] if row["score"] >= threshold]
    assert (localized / "actions/clip1.vtt").read_text().count("-->") == len(shown) > 0
    assert record["external_data"]["duration"] == pytest.approx(8.0)


def test_a_finished_video_is_not_done_again(trained, localized, capsys):
    before = {path: path.stat().st_mtime_ns for path in (localized / "actions").iterdir()}
    assert run(trained, localized, trained.videos, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["localized"], said["skipped"], said["failed"]) == (0, 3, 0)
    assert said["page"] == str(localized / "index.html")
    assert before == {path: path.stat().st_mtime_ns for path in (localized / "actions").iterdir()}


def test_other_settings_or_another_video_of_the_name_are_refused(trained, localized, tmp_path, capsys):
    assert run(trained, localized, trained.videos, "--top", 3) == 2
    assert "top of --out" in capsys.readouterr().err
    other = make_action_video(tmp_path / "clip1.mp4", start=1, end=2, seconds=3)
    assert run(trained, localized, other) == 2
    assert "another video of this name" in capsys.readouterr().err
    assert run(trained, tmp_path / "out", trained.videos, other) == 2
    assert "has the same id 'clip1'" in capsys.readouterr().err


def test_overwriting_touches_nothing_but_results(trained, tmp_path):
    video = trained.videos / "v_clip0.mp4"
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "notes.json").write_text("{}")
    assert run(trained, tmp_path, video, "--no-page") == 0
    assert names(tmp_path) == ["actions", "actions.csv", "localize.json", "results.json"]
    assert run(trained, tmp_path, video, "--no-page", "--threshold", 0.2, "--top", 2, "--overwrite") == 0
    assert names(tmp_path / "actions") == ["clip0.csv", "clip0.json", "clip0.vtt", "notes.json"]
    (rows,) = results(tmp_path).values()
    assert len(rows) == 2
    assert all(row["score"] >= 0.2 for row in rows)


def test_one_bad_video_does_not_stop_the_rest(trained, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    missing = tmp_path / "missing.mp4"
    status = run(trained, tmp_path / "out", missing, bad, trained.videos / "v_clip2.mp4")
    said = capsys.readouterr()
    assert status == 3
    assert "1 localized" in said.out
    assert "2 failed" in said.out
    lines = [json.loads(line) for line in (tmp_path / "out/errors.jsonl").read_text().splitlines()]
    assert {line["source"]: line["stage"] for line in lines} == {"bad.mp4": "open", str(missing): "find"}
    assert set(results(tmp_path / "out")) == {"clip2"}
    index = (tmp_path / "out/index.html").read_text()
    assert "bad.mp4" in index
    assert "no video container" in index
    # Mended, the same command does the rest and leaves no list of errors.
    make_action_video(bad, start=1, end=2)
    make_action_video(missing, start=1, end=2)
    assert run(trained, tmp_path / "out", missing, bad, trained.videos / "v_clip2.mp4") == 0
    assert set(results(tmp_path / "out")) == {"clip2", "bad", "missing"}
    assert not (tmp_path / "out/errors.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.mp4"], "nowhere.mp4"),
        (["VIDEOS", "--embed", "--no-page"], "--embed = True: has no effect"),
        (["VIDEOS", "--threshold", "-1"], "--threshold = -1.0"),
        (["VIDEOS", "--top", "-1"], "--top = -1"),
        (["VIDEOS", "--device", "abacus"], "--device = 'abacus'"),
        (["VIDEOS", "--batch", "0"], "--batch = 0"),
        (["VIDEOS", "--model", "nothing"], "pal-transfer export"),
    ],
)
def test_wrong_usage_is_one_line_before_anything_is_written(trained, tmp_path, capsys, words, said):
    words = [str(trained.videos) if word == "VIDEOS" else word for word in words]
    assert main(["--model", str(trained.model), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pal-localize: error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "out").exists()


def test_films_that_browsers_do_not_play_get_a_copy(trained, tmp_path):
    source = trained.videos / "v_clip0.mp4"
    ffmpeg("-i", str(source), "-c:v", "mpeg4", str(tmp_path / "old.avi"))
    ffmpeg("-i", str(source), "-c:v", "libx264", "-pix_fmt", "yuv444p", str(tmp_path / "rich.mp4"))
    assert run(trained, tmp_path / "out", tmp_path) == 0
    for name in ("old", "rich"):
        page = (tmp_path / f"out/actions/{name}.html").read_text()
        assert f'src="{name}.mp4"' in page
        assert page.count("data:image/jpeg") > 3
        assert film._ending(tmp_path / f"out/actions/{name}.mp4") == ".mp4"
    assert run(trained, tmp_path / "out", tmp_path / "old.avi", "--overwrite", "--no-page") == 0
    assert names(tmp_path / "out/actions") == ["old.csv", "old.json", "old.vtt"]


def test_pages_link_to_local_films_or_hold_them(trained, localized, tmp_path, capsys, monkeypatch):
    page = (localized / "actions/clip0.html").read_text()
    (link,) = re.findall(r'<video id="film" src="([^"]+)"', page)
    assert (localized / "actions" / link).resolve() == trained.videos / "v_clip0.mp4"
    video = make_action_video(tmp_path / "a film #1 100%.mp4", start=1, end=2)
    assert run(trained, tmp_path / "out", video, "--embed", "--thumbnails", 2) == 0
    held = (tmp_path / "out/actions/a film #1 100%.html").read_text()
    assert '<video id="film" src="data:video/mp4;base64,' in held
    assert held.count("data:image/jpeg") == 2 * 2  # two segments, each with two classes
    assert 'href="actions/a%20film%20%231%20100%25.html"' in (tmp_path / "out/index.html").read_text()
    capsys.readouterr()
    for module in (film, localizer):
        monkeypatch.setattr(module, "EMBED_BYTES", 100)
    assert run(trained, tmp_path / "out", video, "--embed", "--overwrite") == 0
    assert "so its page links to it" in capsys.readouterr().err
    assert 'src="../../a%20film%20%231%20100%25.mp4"' in (
        tmp_path / "out/actions/a film #1 100%.html"
    ).read_text(errors="replace")


def test_samples_of_a_shard_set_get_a_copy_beside_the_page(trained, tmp_path):
    video = make_video(tmp_path / "0123456789abcdef0123.mp4", seconds=2.0)
    write_shard_set(tmp_path / "set", [video])
    assert run(trained, tmp_path / "out", tmp_path / "set") == 0
    copy = tmp_path / "out/actions/0123456789abcdef0123.mp4"
    assert copy.read_bytes() == video.read_bytes()
    assert 'src="0123456789abcdef0123.mp4"' in copy.with_suffix(".html").read_text()


def test_pages_escape_what_they_show_and_fetch_nothing(localized):
    for path in (localized / "index.html", localized / "actions/clip1.html"):
        page = path.read_text()
        assert "a <b>&" not in page
        assert ("a &lt;b&gt;&amp; turn" in page) == (path.name == "clip1.html")
        for link in re.findall(r'(?:src|href)="([^"]*)"', page):
            assert not re.match(r"(https?:)?//", link), link
        assert "url(" not in page.replace("url(data:", "")


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(trained, tmp_path):
    for number in range(4):
        make_action_video(tmp_path / f"videos/film{number}.mp4", start=1, end=2 + number, seconds=30)
    command = ["-m", "pal_ds.cli.localize", str(tmp_path / "videos"), "--model", str(trained.model),
               "--out", str(tmp_path / "out"), "--device", "cpu", "--json", "--no-page"]  # fmt: skip
    process = fork_server().start(command, env={**os.environ, "TMPDIR": str(tmp_path)})
    actions = tmp_path / "out/actions"
    while not (actions.exists() and any(path.suffix == ".json" for path in actions.iterdir())):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in actions.glob("*.json")}
    done = run_python(command, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["skipped"] == len(kept) >= 1
    assert said["localized"] == 4 - len(kept) >= 1
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert set(results(tmp_path / "out")) == {f"film{number}" for number in range(4)}
    # What the killed process left in the scratch folder is gone.
    assert not list(tmp_path.glob("pal-localize-*"))


@pytest.mark.slow
def test_model_videos_and_results_in_a_bucket(trained, s3_env, capsys):
    bucket = s3_env.bucket("localize")
    bucket = bucket if bucket.startswith("s3://") else f"s3://{bucket}"
    model, out = f"{bucket}/model", f"{bucket}/found"
    words = ["export", str(trained.run), "--encoder", str(trained.encoder), "--out", model]
    assert transfer.main(words) == 0
    video = trained.videos / "v_clip1.mp4"
    storage.upload_file(video, f"{bucket}/videos/v_clip1.mp4")
    for said in ("localized", "skipped"):
        capsys.readouterr()
        command = [f"{bucket}/videos/", "--model", model, "--out", out, "--device", "cpu", "--json"]
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)[said] == 1
    rows = json.loads(storage.read_bytes(f"{out}/results.json"))["results"]["clip1"]
    wanted = trained.predictions()["clip1"]
    np.testing.assert_allclose([r["segment"] for r in rows], [r["segment"] for r in wanted], rtol=1e-4)
    # A browser can't read a bucket: the film lies beside the page.
    assert storage.read_bytes(f"{out}/actions/clip1.mp4") == video.read_bytes()
    assert b'src="clip1.mp4"' in storage.read_bytes(f"{out}/actions/clip1.html")
    assert b"actions/clip1.html" in storage.read_bytes(f"{out}/index.html")
