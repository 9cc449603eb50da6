"""Lists of spans and global video features: what is cut, left out and refused, and the way into a shard set."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from pal_ds.formats.recording import recording_number
from pal_ds.transfer.datasets.annotations import AnnotationError, Segment, VideoAnnotation
from pal_ds.transfer.datasets.spans import Span, spans_of, to_csv
from tests.support.fork_server import run_python
from tests.support.synthetic_localization import make_set


def video(segments: list[tuple[float, float, str]], **options: Any) -> VideoAnnotation:
    made = tuple(Segment(start=start, end=end, label=label) for start, end, label in segments)
    values: dict[str, Any] = {"video": "one", "subset": "training", "duration": 30.0, "fps": float("nan")}
    return VideoAnnotation(**{**values, **options}, segments=made)


def spans(*videos: VideoAnnotation, **options: Any) -> list[Span]:
    chosen: dict[str, Any] = {
        "splits": {"training": "train"},
        "name": "v_{id}.mp4",
        "background": "background",
        "min_seconds": 1.0,
        "source": "truth.json",
    }
    return list(spans_of(videos, **{**chosen, **options}))


def test_actions_and_what_lies_between_them() -> None:
    found = spans(video([(20.0, 31.0, "run"), (5.0, 9.0, "jump"), (8.0, 12.0, "run"), (12.5, 13.0, "jump")]))
    assert [(span.start, span.end, span.label) for span in found] == [
        (0.0, 5.0, "background"),
        (5.0, 9.0, "jump"),
        (8.0, 12.0, "run"),
        # Half a second of background, and an action of half a second, hold no clip.
        (13.0, 20.0, "background"),
        (20.0, 30.0, "run"),
    ]
    assert {(span.path, span.split) for span in found} == {("v_one.mp4", "train")}


def covered(pieces: list[tuple[float, float]], grid: np.ndarray) -> np.ndarray:
    return np.array([any(start < at < end for start, end in pieces) for at in grid])


@settings(max_examples=100, deadline=None)
@given(starts=st.lists(st.tuples(st.floats(0, 40), st.floats(0, 20)), max_size=6))
def test_background_is_exactly_what_no_action_covers(starts: list[tuple[float, float]]) -> None:
    segments = [(start, start + length, "a") for start, length in starts]
    found = spans(video(segments), min_seconds=0.0)
    edges = np.array([value for start, end, _ in segments for value in (start, end)] or [-1.0])
    grid = np.array([at for at in np.linspace(0.001, 29.999, 499) if np.abs(edges - at).min() > 1e-9])
    actions = covered([(start, end) for start, end, _ in segments], grid)
    background = covered([(span.start, span.end) for span in found if span.label == "background"], grid)
    assert (background == ~actions).all()
    assert all(0 <= span.start <= span.end <= 30 for span in found)


def test_what_can_not_be_listed_is_told() -> None:
    with pytest.raises(AnnotationError, match="one: has no duration"):
        spans(video([], duration=float("nan")))
    with pytest.raises(AnnotationError, match="--background"):
        spans(video([(1.0, 4.0, "background")]))
    assert spans(video([], subset="testing")) == []


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_python(["-m", "pal_ds.cli.evaluate", *arguments])


@pytest.mark.slow
def test_the_commands_make_a_list_and_a_table_of_it(tmp_path: Path) -> None:
    folder = make_set(tmp_path, videos=4, length=40, channels=8)
    truth, listed = folder / "truth.json", tmp_path / "spans.csv"
    subset = next(iter(json.loads(truth.read_text())["database"].values()))["subset"]
    places = ["--ground-truth", truth, "--out", listed]
    done = run("spans", *places, "--subset", f"{subset}=train", "--min-seconds", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    rows = list(csv.DictReader(io.StringIO(listed.read_text())))
    assert (figures["actions"] + figures["background"], figures["videos"]) == (len(rows), 4)
    assert {row["label"] for row in rows} > {"background"}
    table = tmp_path / "gvf.safetensors"
    done = run("gvf", "--features", folder / "features", "--spans", listed, "--out", table)
    assert done.returncode == 0, done.stderr
    found = load_file(table)
    for row in rows:
        # As the shard builder names the source of a span.
        number = recording_number(f"{row['path']}#t={row['start']},{row['end']}")
        (place,) = torch.nonzero(found["recordings"] == number).flatten().tolist()
        values = np.load(folder / "features" / row["path"].replace(".mp4", ".npy"))
        np.testing.assert_array_equal(found["features"][place].numpy(), values.max(axis=0))
    listed.write_bytes(to_csv([Span(path="v_none.mp4", start=0, end=1, split="train", label="a")]))
    refused = run("gvf", "--features", folder / "features", "--spans", listed, "--out", table)
    assert (refused.returncode, "v_none.mp4" in refused.stderr) == (2, True)
    refused = run("spans", *places, "--subset", "nothing")
    assert (refused.returncode, "SUBSET=SPLIT" in refused.stderr) == (2, True)
