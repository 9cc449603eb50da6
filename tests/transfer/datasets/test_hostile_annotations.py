"""Annotation and prediction files as people have them: a figure, or one line that names the fault."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from pal_ds.cli.evaluate import main
from pal_ds.config.base import ConfigError
from pal_ds.transfer.datasets.annotation_rows import read_database
from pal_ds.transfer.tasks.class_scores import VideoScores

NAN = float("nan")
ONE = {"segment": [1, 2], "label": "a", "sentence": "x"}
TASKS = ("detection", "proposals", "grounding", "classification")


def truth(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"database": {"v": {"subset": "validation", "annotations": list(parts), **fields}}}


def guess(**fields: Any) -> dict[str, Any]:
    return {"results": {"v": [{**ONE, "score": 0.5, **fields}]}}


TRUTHS: dict[str, Any] = {
    "sound": truth(ONE),
    "two": truth(ONE, ONE),
    "no database": {},
    "a list": {"database": []},
    "no video": {"database": {}},
    "null": None,
    "video is null": {"database": {"v": None}},
    "annotations are null": {"database": {"v": {"subset": "validation", "annotations": None}}},
    "no annotations": {"database": {"v": {"subset": "validation"}}},
    "empty annotations": truth(),
    "val": truth(ONE, subset="val"),
    "testing": truth(subset="testing"),
    "subset is a list": truth(ONE, subset=["validation"]),
    "NaN segment": truth({**ONE, "segment": [NAN, 2]}),
    "segment as text": truth({**ONE, "segment": ["1", "2"]}),
    "past the duration": truth({**ONE, "segment": [-3, 99]}, duration=1.0),
    "label is null": truth({"segment": [1, 2], "label": None, "sentence": None}),
    "label is a number": truth({"segment": [1, 2], "label": 3}),
    "three ends": truth({**ONE, "segment": [1, 2, 3]}),
    "zero length": truth({**ONE, "segment": [1, 1]}),
    "far away": truth({**ONE, "segment": [-1e308, 1e308]}),
    "flat": {"v_v": {"duration": 9, "timestamps": [[1, 2]], "sentences": ["x"]}},
    "flat, uneven": {"v": {"duration": 9, "timestamps": [[1, 2], [3, 4]], "sentences": ["x"]}},
}
GUESSES: dict[str, Any] = {
    "sound": guess(),
    "nothing": {"results": {}},
    "no rows": {"results": {"v": []}},
    "no results": {},
    "a list": [],
    "null": None,
    "rows are null": {"results": {"v": None}},
    "NaN score": guess(score=NAN),
    "infinite score": guess(score=float("-inf")),
    "huge score": guess(score=10**400),
    "score as text": guess(score="0.5"),
    "score is true": guess(score=True),
    "unknown label": guess(label="zzz", sentence="zzz"),
    "label is null": guess(label=None),
    "past the duration": guess(segment=[-10, 1e9]),
    "far away": guess(segment=[-1e308, 1e308]),
    "huge": guess(segment=[0, 10**400]),
    "nested": guess(segment=[[1], [2]]),
    "three ends": guess(segment=[1, 2, 3]),
    "row is a list": {"results": {"v": [[1, 2]]}},
    "stranger": {"results": {"w": [{**ONE, "score": 1}]}},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("subset", ["validation", "val", "all"])
def test_every_pair_of_files_gives_figures_or_one_line(
    task: str, subset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth_path, guess_path = tmp_path / "gt.json", tmp_path / "p.json"
    pairs = [(about, how) for about in TRUTHS for how in ("sound", "nothing")]
    pairs += [(about, how) for about in ("sound", "two", "empty annotations") for how in GUESSES]
    for about, how in pairs:
        truth_path.write_text(json.dumps(TRUTHS[about]))
        guess_path.write_text(json.dumps(GUESSES[how]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            words = ["--ground-truth", str(truth_path), "--predictions", str(guess_path)]
            status = main([task, *words, "--subset", subset, "--json"])
        out, err = capsys.readouterr()
        if status == 0:
            assert "NaN" not in out, (about, how)
            assert json.loads(out), (about, how)
        else:
            assert (status, out, err.count("\n")) == (2, "", 1), (about, how, err)


@pytest.mark.parametrize(
    ("about", "how", "message"),
    [
        ("sound", "NaN score", "prediction 0: score = nan isn't a finite number"),
        ("sound", "score as text", "prediction 0: score = '0.5' isn't a finite number"),
        ("sound", "score is true", "score = True isn't a finite number"),
        ("sound", "huge score", "isn't a finite number"),
        ("sound", "nested", "segment = [[1], [2]] isn't [start, end]"),
        ("sound", "far away", "isn't a time in seconds"),
        ("val", "sound", "no video in subset 'validation'; it has val (1), or say all"),
        ("testing", "sound", "it has testing (1)"),
        ("empty annotations", "sound", "holds no annotated instance"),
    ],
)
def test_the_line_names_the_fault(
    about: str, how: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(TRUTHS[about]))
    (tmp_path / "p.json").write_text(json.dumps(GUESSES[how]))
    words = ["--ground-truth", str(tmp_path / "gt.json"), "--predictions", str(tmp_path / "p.json")]
    assert main(["detection", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("which", ["gt.json", "p.json"])
def test_a_video_named_twice_is_refused(
    which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(truth(ONE)))
    (tmp_path / "p.json").write_text(json.dumps(guess()))
    text = (tmp_path / which).read_text()
    start = text.index('"v": ')
    # Readers of JSON keep the last of equal names, without a word.
    (tmp_path / which).write_text(text[:start] + '"v": [], ' + text[start:])
    words = ["--ground-truth", str(tmp_path / "gt.json"), "--predictions", str(tmp_path / "p.json")]
    assert main(["detection", *words]) == 2
    assert f"{which}: names 'v' twice in one object" in capsys.readouterr().err


def test_flat_captions_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = {"v_v": {"duration": 9, "timestamps": [[1, 2], [4, 8]], "sentences": ["x", "y"]}}
    rows = [
        {"segment": [1, 2], "sentence": "x", "score": 1},
        {"segment": [4, 6], "sentence": "y", "score": 1},
    ]
    (tmp_path / "gt.json").write_text(json.dumps(captions))
    for name in ("v", "v_v"):
        (tmp_path / "p.json").write_text(json.dumps({"results": {name: rows}}))
        words = ["--ground-truth", str(tmp_path / "gt.json"), "--predictions", str(tmp_path / "p.json")]
        assert main(["grounding", *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["mIoU"] == pytest.approx(75.0)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"database": {"v": []}},
        {"database": {"v": {"annotations": None}}},
        {"database": {"v": {"annotations": [3]}}},
        {"database": {"v": {"annotations": [{"segment": ["a", 2], "label": "x"}]}}},
        {"database": {"v": {"annotations": [{"segment": [5, 2], "label": "x"}]}}},
    ],
)
def test_annotations_that_exports_carry_are_checked(document: Any, tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="--annotations") as caught:
        read_database(str(tmp_path / "gt.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("score", [NAN, "high", None])
def test_class_scores_that_are_no_numbers_are_refused(score: Any, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"results": {"v": [{"label": "a", "score": score}]}}))
    with pytest.raises(ConfigError, match="class_scores"):
        VideoScores(str(tmp_path / "s.json"))
