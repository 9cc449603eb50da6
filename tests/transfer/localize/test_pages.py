"""The pages in a real browser: they play, seek, filter, and say nothing on the console."""

import base64
import dataclasses
import io
import os
import re

import pytest

from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.localize.film import Film, address, first_moment
from pal_ds.transfer.localize.index_page import index_page
from pal_ds.transfer.localize.record import Record
from pal_ds.transfer.localize.text_files import subtitles
from pal_ds.transfer.localize.thumbnails import thumbnails
from pal_ds.transfer.localize.video_page import MOST_ACTIONS, spans_to_picture, video_page
from tests.support.browser import Browser
from tests.support.extract_fixtures import ffmpeg
from tests.support.localizer_model import make_action_video

ODD = 'a "<script>alert(1)</script>" & \N{SNOWMAN}'
ROWS = [(1.0, 3.0, 0.9, ODD), (1.0, 3.0, 0.2, "jump"), (2.0, 5.0, 0.6, ODD), (5.5, 7.5, 0.8, "jump")]


def record(rows=ROWS, name="film"):
    made = [{"segment": [start, end], "score": score, "label": label} for start, end, score, label in rows]
    return Record(
        id=name, source=f"/v/{name}.mp4", file_bytes=1, duration=8.0, clips=9, rows=made, threshold=0.5, model="ab"
    )  # fmt: skip


def plain(made, film="film.mp4", note="", pictures=None, begin=0.0):
    return video_page(
        made, film=film, begin=begin, note=note, pictures=pictures or {}, facts=[("Head", "gtad")]
    )


def test_names_and_labels_are_escaped():
    pages = (
        plain(record(name=f"x{ODD}"), note=ODD),
        index_page(
            [record(name=f"x{ODD}")],
            [VideoFailure(id="b", source=ODD, stage="open", error=ODD)],
            folder="actions",
        ),
    )
    for page in pages:
        assert "<script>alert" not in page
        assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


def test_links_keep_the_bytes_of_a_name_in_no_encoding():
    name = os.fsdecode(b"caf\xe9 #1")
    assert 'href="caf%E9%20%231.vtt"' in plain(record(name=name))
    assert "actions/caf%E9%20%231.html" in index_page([record(name=name)], [], folder="actions")


def test_a_page_without_scores_or_actions_is_whole():
    assert "No action has such a score" in plain(record([]))
    assert "0 of 1 found actions" in re.sub(r"<[^>]+>", "", plain(record([(0.0, 1.0, 0.0, "jump")])))


def test_of_very_many_actions_the_best_are_on_the_page():
    rows = [(1.0, 2.0 + number / 1000, number / 1000, "jump") for number in range(MOST_ACTIONS + 50)]
    page = plain(record(rows))
    assert page.count("<li data-start") == MOST_ACTIONS
    assert f"The best {MOST_ACTIONS} actions are on this page, 50 more" in " ".join(page.split())
    assert spans_to_picture(record(rows), 2) == [(1.0, 2.449), (1.0, 2.448)]


def test_a_segment_of_two_classes_is_pictured_once():
    assert spans_to_picture(record(), 9) == [(1.0, 3.0), (5.5, 7.5), (2.0, 5.0)]


def test_thumbnails_show_the_moments_asked_for(tmp_path):
    video = tmp_path / "film.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x48:r=25:d=2", "-f", "lavfi", "-i", "color=blue:s=64x48:r=25:d=2",
           "-filter_complex", "[0][1]concat", "-pix_fmt", "yuv420p", str(video))  # fmt: skip
    from PIL import Image

    made = thumbnails(video, [3.0, 1.0, 99.0])
    colours = []
    for uri in made:
        picture = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
        assert picture.size == (192, 144)
        colours.append(picture.convert("RGB").getpixel((90, 70)))
    assert ["blue" if blue > red else "red" for red, _, blue in colours] == ["blue", "red", "blue"]
    assert thumbnails(video, []) == []


@pytest.fixture
def page(tmp_path):
    """A page whose film lies beside it, in H.264."""
    make_action_video(tmp_path / "film.mp4", start=1.0, end=3.0)
    path = tmp_path / "page.html"
    path.write_text(plain(record()))
    return path


def shown(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('.actions li:not([hidden])')].map(e => Number(e.dataset.start))"
    )


def state(browser, what):
    return browser.evaluate(f"document.getElementById('film').{what}")


@pytest.mark.slow
def test_a_click_on_an_action_seeks_the_player(page, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        browser.until("document.getElementById('film').readyState >= 1")
        assert state(browser, "duration") == pytest.approx(8.0, abs=0.1)
        assert shown(browser) == [1.0, 2.0, 5.5]
        browser.click(".actions li[data-start='5.500'] button")
        browser.until(
            "!document.getElementById('film').paused && document.getElementById('film').currentTime > 5.6"
        )
        assert state(browser, "currentTime") < 7.6
        assert browser.evaluate("document.querySelector('.actions li.now').dataset.start") == "5.500"
        browser.evaluate("document.getElementById('film').pause()")
        browser.click(".track button")
        browser.until("Math.abs(document.getElementById('film').currentTime - 1) < 0.9")
        assert browser.evaluate("[...document.getElementById('film').textTracks[0].cues].length") == 3
        low = "s => { s.value = 0.1; s.dispatchEvent(new Event('input')); }"
        browser.evaluate(f"({low})(document.getElementById('threshold'))")
        assert shown(browser) == [1.0, 1.0, 2.0, 5.5]
        high = low.replace("0.1", "0.95")
        browser.evaluate(f"({high})(document.getElementById('threshold'))")
        assert browser.evaluate("document.getElementById('count').textContent") == "1"
        browser.evaluate("document.getElementById('film').pause()")
        for moment in (6.25, 3.5):
            browser.open(page, f"#t={moment}")
            browser.until(f"document.getElementById('film').currentTime === {moment}")
        assert browser.problems == []


@pytest.mark.slow
def test_webm_inside_the_page_plays_and_fits_a_phone(tmp_path):
    video = tmp_path / "film.webm"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=8", "-c:v", "libvpx", "-b:v", "100k",
           "-deadline", "realtime", "-cpu-used", "8", str(video))  # fmt: skip
    link, ending = address(Film(path=video, ending=".webm", original=True), "film", str(tmp_path), embed=True)
    assert link.startswith("data:video/webm;base64,")
    assert ending == ""
    video.unlink()
    path = tmp_path / "page.html"
    path.write_text(plain(record(), film=link))
    with Browser(tmp_path / "profile", width=375, height=700, dark=True) as browser:
        browser.open(path)
        browser.until("document.getElementById('film').readyState >= 1")
        browser.click(".actions li[data-start='5.500'] button")
        browser.until("document.getElementById('film').currentTime > 5.5")
        assert browser.evaluate("document.documentElement.scrollWidth") == 375
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
        assert browser.problems == []
        index = tmp_path / "index.html"
        index.write_text(index_page([record(name="x" * 90)], [], folder="actions"))
        browser.open(index)
        assert browser.evaluate("document.documentElement.scrollWidth") == 375
        assert browser.problems == []


@pytest.mark.slow
def test_actions_count_from_the_first_frame_and_the_player_from_zero(tmp_path):
    video = make_action_video(tmp_path / "whole.mp4", start=1.0, end=3.0)
    late = tmp_path / "late.mp4"
    sound = ("-f", "lavfi", "-i", "sine=duration=9", "-map", "0:v", "-map", "1:a")
    ffmpeg("-itsoffset", "1.5", "-i", str(video), *sound, "-c:v", "copy", "-c:a", "aac", str(late))
    assert first_moment(str(video)) == 0.0
    assert first_moment(str(late)) == pytest.approx(1.5)
    assert first_moment(io.BytesIO(late.read_bytes())) == pytest.approx(1.5)
    made = dataclasses.replace(record(), begin=1.5)
    assert "00:00:07.000 --> 00:00:09.000" in subtitles(made)
    path = tmp_path / "page.html"
    path.write_text(plain(made, film="late.mp4", begin=1.5))
    with Browser(tmp_path / "profile") as browser:
        browser.open(path, "#t=5.75")
        browser.until("document.getElementById('film').currentTime === 7.25")
        browser.until("document.querySelector('.actions li.now')?.dataset.start === '5.500'")
        cues = browser.evaluate(
            "[...document.getElementById('film').textTracks[0].cues].map(c => c.startTime)"
        )
        assert cues == [2.5, 3.5, 7.0]
        assert browser.problems == []


@pytest.mark.slow
def test_a_film_that_is_gone_is_told(page, tmp_path):
    (tmp_path / "film.mp4").unlink()
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        browser.until("!document.getElementById('broken').hidden")
        browser.click(".actions li button")
        assert any("not loaded" in problem or "ERR_FILE_NOT_FOUND" in problem for problem in browser.problems)


def test_the_script_is_well_formed():
    # A closing tag inside the script would end it early; the browser tests can't tell where there is no browser.
    page = plain(record())
    assert page.count("</script>") == 1
    assert page.index("<script>") < page.index("</script>")
