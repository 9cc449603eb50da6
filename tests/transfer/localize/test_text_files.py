"""Subtitles, tables and records: times, escaping, and what other readers make of them."""

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal_ds.transfer.localize.record import Record, RecordError, keep, official
from pal_ds.transfer.localize.templating import clock
from pal_ds.transfer.localize.text_files import cue_text, subtitles, table
from pal_ds.transfer.metrics.prediction_files import read_predictions


def record(*rows, threshold=0.0, name="clip"):
    made = [{"segment": [start, end], "score": score, "label": label} for start, end, score, label in rows]
    return Record(
        id=name, source="/videos/clip.mp4", file_bytes=10, duration=4000.0, clips=5, rows=made,
        threshold=threshold, model="ab",
    )  # fmt: skip


def test_cues_are_in_the_order_of_time_and_from_the_threshold_on():
    made = subtitles(
        record(
            (3725.5, 3726.0, 0.9, "throw"), (1.0, 2.0, 0.1, "run"), (0.0, 59.9996, 0.5, "jump"), threshold=0.5
        )
    )
    assert made == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:01:00.000\njump (0.50)\n\n2\n01:02:05.500 --> 01:02:06.000\nthrow (0.90)\n"
    )


def test_a_video_without_actions_has_an_empty_track():
    assert subtitles(record()) == "WEBVTT\n"


def test_a_cue_lasts_at_least_a_millisecond():
    assert "00:00:01.000 --> 00:00:01.001" in subtitles(record((1.0, 1.0001, 1.0, "blink")))


def test_labels_can_not_end_a_cue_or_begin_a_tag():
    label = "<c.red>a --> b & c\n\n2\n00:00"
    made = subtitles(record((0.0, 1.0, 0.5, label)))
    assert made.count("-->") == 1
    assert made.splitlines()[4:] == ["&lt;c.red&gt;a --&gt; b &amp; c 2 00:00 (0.50)"]


@given(st.text())
def test_escaped_text_is_one_line_and_comes_back(text):
    escaped = cue_text(text)
    assert not re.search(r"[<>\n\r]", escaped)
    back = escaped.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
    assert back == " ".join(text.split())


def test_the_table_holds_every_action_and_survives_odd_labels():
    made = record((0.25, 1.5, 0.1, 'say "hi", twice\nplease'), (2.0, 3.0, 1e-7, "ä"), threshold=0.5)
    rows = list(csv.DictReader(io.StringIO(table([made, record(name="none")]))))
    assert rows == [
        {
            "video": "clip",
            "start": "0.250",
            "end": "1.500",
            "label": 'say "hi", twice\nplease',
            "score": "0.1",
        },
        {"video": "clip", "start": "2.000", "end": "3.000", "label": "ä", "score": "1e-07"},
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-2", "@SUM(A1)", "\tx", "\rx"])
def test_a_spreadsheet_takes_no_name_for_a_formula(name):
    (row,) = csv.DictReader(io.StringIO(table([record((0.0, 1.0, 0.5, name), name=name)]), newline=""))
    assert (row["video"], row["label"]) == (f"'{name}", f"'{name}")
    assert row["start"] == "0.000"


def test_a_record_comes_back_and_is_a_file_of_predictions(tmp_path):
    made = record((0.1, 1 / 3, 0.7, "jump"), (2.0, 3.0, 0.2, "run"))
    assert Record.from_json(made.to_json()) == made
    (tmp_path / "one.json").write_bytes(made.to_json())
    (tmp_path / "all.json").write_text(json.dumps(official([made, record(name="other")])))
    for name, videos in (("one", ("clip",)), ("all", ("clip", "other"))):
        read = read_predictions(str(tmp_path / f"{name}.json"), labelled=True)
        assert read.videos == videos
        assert read.segments.tolist() == [[0.1, 1 / 3], [2.0, 3.0]]
        assert read.scores.tolist() == [0.7, 0.2]


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"results": {}, "external_data": {"format": "pal-localization/1"}}',
        record().to_json().replace(b"pal-localization/1", b"pal-localization/9"),
        record(name="../clip").to_json(),
        record().to_json().replace(b'"film": ""', b'"film": "/../../x"'),
    ],
)
def test_what_is_no_record_is_refused(data):
    with pytest.raises(RecordError):
        Record.from_json(data)


def test_the_best_rows_are_kept_in_their_order():
    rows = [{"score": score} for score in (0.5, 0.1, 0.9, 0.5)]
    scores = lambda found: [row["score"] for row in found]  # noqa: E731 (short)
    assert scores(keep(rows, threshold=None, top=0)) == [0.5, 0.1, 0.9, 0.5]
    assert scores(keep(rows, threshold=0.5, top=0)) == [0.5, 0.9, 0.5]
    assert scores(keep(rows, threshold=None, top=2)) == [0.5, 0.9]
    assert keep(rows, threshold=1.0, top=2) == []


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (7.44, "0:07.4"), (59.97, "1:00.0"), (3723.5, "1:02:03.5")]
)
def test_moments_are_shown_as_players_do(seconds, shown):
    assert clock(seconds) == shown
