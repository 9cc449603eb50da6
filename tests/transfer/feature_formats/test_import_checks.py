"""Foreign features that aren't what the options say: one line, and nothing is left at the destination."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from pal_ds.cli.import_features import main
from pal_ds.formats.feature_folder import FeatureStore

SECONDS = {"a": 20.0, "b": 31.0, "c": 12.0}
AXIS = ["--clip-frames", "16", "--stride", "4", "--fps", "25"]


def features(video: str, channels: int = 32) -> NDArray[np.float32]:
    length = (int(SECONDS[video] * 25) - 16) // 4 + 1
    return np.random.default_rng(3).standard_normal((length, channels)).astype(np.float32)


@pytest.fixture
def annotations(tmp_path: Path) -> str:
    rows = {video: {"duration": seconds} for video, seconds in SECONDS.items()}
    (tmp_path / "gt.json").write_text(json.dumps({"database": rows}))
    return str(tmp_path / "gt.json")


def run(tmp_path: Path, annotations: str, *more: str, kind: str = "npy", source: str = "in") -> int:
    words = [
        "--features",
        str(tmp_path / source),
        "--out",
        str(tmp_path / "out"),
        "--annotations",
        annotations,
    ]
    return main([*words, "--kind", kind, *(more or AXIS)])


def save(folder: Path, **arrays: NDArray[np.generic]) -> None:
    folder.mkdir()
    for video, array in arrays.items():
        np.save(folder / f"v_{video}.npy", array)


def test_half_precision_becomes_single(tmp_path: Path, annotations: str) -> None:
    save(tmp_path / "in", **{video: features(video).astype(np.float16) for video in SECONDS})
    assert run(tmp_path, annotations) == 0
    array = FeatureStore(str(tmp_path / "out")).load("a").values_tc
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, features("a").astype(np.float16).astype(np.float32))


def test_half_precision_from_hdf5(tmp_path: Path, annotations: str) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for video in SECONDS:
            file.create_dataset(f"v_{video}", data=features(video).astype(np.float16))
    assert run(tmp_path, annotations, kind="hdf5", source="in.h5") == 0
    assert FeatureStore(str(tmp_path / "out")).load("b").values_tc.dtype == np.float32


def refused(tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert run(tmp_path, annotations, *more) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("v_*"))
    return error


def test_transposed_features_are_seen(
    tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Videos of different lengths differ in what should be their channels.
    save(tmp_path / "in", **{video: features(video).T for video in SECONDS})
    assert "channels, the files before it have" in refused(tmp_path, annotations, capsys)


def test_one_transposed_video_is_seen(
    tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in", a=features("a").T)
    error = refused(tmp_path, annotations, capsys)
    assert "[32, 122] covers 5.6 s of a video of 20.0 s; they look transposed" in error


def test_one_transposed_among_others_is_named(
    tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in", a=features("a"), b=features("b").T)
    assert "it looks transposed: give [T, C]" in refused(tmp_path, annotations, capsys)


@pytest.mark.parametrize(("name", "value"), [("--fps", "30"), ("--stride", "8"), ("--fps", "15")])
def test_a_time_axis_that_does_not_fit_the_durations_is_refused(
    name: str, value: str, tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in", **{video: features(video) for video in SECONDS})
    axis = list(AXIS)
    axis[axis.index(name) + 1] = value
    error = refused(tmp_path, annotations, capsys, *axis)
    assert "3 of 3 videos don't fit it" in error
    assert "check --fps, --stride and --clip-frames" in error


def test_one_video_without_its_end_is_kept(tmp_path: Path, annotations: str) -> None:
    save(tmp_path / "in", a=features("a"), b=features("b")[:60], c=features("c"))
    assert run(tmp_path, annotations) == 0
    assert FeatureStore(str(tmp_path / "out")).ids == ["a", "b", "c"]


def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    large = np.full((122, 32), 1e5)
    with np.errstate(over="ignore"):
        save(tmp_path / "in", a=large.astype(np.float16))
    assert "aren't finite" in refused(tmp_path, annotations, capsys)


def test_two_files_of_one_video_are_refused(
    tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in", a=features("a"))
    save(tmp_path / "in" / "again", a=features("a"))
    assert "has the id 'a' of" in refused(tmp_path, annotations, capsys)


@pytest.mark.parametrize("row", [{"duration": 0}, {"duration": "x"}, {}, {"duration": float("nan")}])
def test_durations_that_are_none_are_refused(
    row: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": row}}))
    save(tmp_path / "in", a=features("a"))
    assert "--annotations = 'a'" in refused(tmp_path, str(tmp_path / "gt.json"), capsys)
