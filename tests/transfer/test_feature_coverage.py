"""``pal-eval missing``: which of annotated videos and features lack the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pal_ds.cli.evaluate import main

ACTION = {"segment": [0, 1], "label": "a"}
DATABASE = {
    "one": {"subset": "training", "annotations": [ACTION]},
    "two": {"subset": "validation", "annotations": [ACTION]},
    "three": {"subset": "validation", "annotations": [ACTION]},
    "test": {"subset": "testing", "annotations": []},
}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "gt.json").write_text(json.dumps({"database": DATABASE}))
    (tmp_path / "features").mkdir()
    places = ["--annotations", str(tmp_path / "gt.json"), "--features", str(tmp_path / "features")]
    return ["missing", *places]


def features(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "features" / name).write_bytes(b"")


def test_everything_there_is_status_0(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(tmp_path, *(f"v_{video}.{end}" for video in ("one", "two", "three") for end in ("npy", "json")))
    assert main(words) == 0
    assert "annotated, without features: 0" in capsys.readouterr().out


def test_both_sides_are_listed_and_the_status_is_3(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(
        tmp_path, "v_one.npy", "v_one.json", "v_two.npy", "v_stranger.npy", "v_stranger.json", "errors.jsonl"
    )
    assert main([*words, "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {
        "annotated": 3,
        "features": 2,
        "without_features": ["three", "two"],
        "without_annotations": ["stranger"],
        "unfinished": ["two"],
    }
    assert main(words) == 3
    out = capsys.readouterr().out
    assert "annotated, without features: 2\n  three\n  two" in out


def test_a_subset_asks_for_its_own_videos_and_knows_the_others(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(tmp_path, *(f"v_{video}.{end}" for video in ("two", "one") for end in ("npy", "json")))
    assert main([*words, "--subset", "training", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["annotated"] == 1


def test_a_long_list_is_cut_for_people(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(tmp_path, *(f"v_{number:02d}.{end}" for number in range(13) for end in ("npy", "json")))
    assert main(words) == 3
    assert "… and 3 more (--json lists all)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "holds no v_<id>.npy"),
        (["--subset", "val"], "no video in subset 'val'"),
        (["--dataset", "hax"], "use one of activitynet"),
        (["--annotations", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_can_not_be_compared_is_one_line_and_status_2(
    words: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *more]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_ids_of_a_data_set_are_those_of_feature_files(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.json").write_text(
        json.dumps({"database": {"v_1": {"subset": "training", "annotations": [ACTION]}}})
    )
    features(tmp_path, "v_1.npy", "v_1.json")
    assert main([*words, "--dataset", "fineaction"]) == 0
    assert main(words) == 3
