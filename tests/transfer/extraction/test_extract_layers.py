"""The command with several layers, other strides and half precision: folders, settings, resuming, what it reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pal_ds.cli.extract import main
from pal_ds.formats.feature_folder import FeatureStore
from tests.support.extract_fixtures import make_video, write_checkpoint


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and two videos."""
    folder = tmp_path_factory.mktemp("places")
    write_checkpoint(folder / "run")
    make_video(folder / "videos" / "one.mp4", seconds=1.0)
    make_video(folder / "videos" / "two.mp4", seconds=2.0, fps=30, source="testsrc")
    return folder / "run", folder / "videos"


def extract(places: tuple[Path, Path], out: Path, *more: str) -> int:
    run, videos = places
    return main(
        ["--checkpoint", str(run), "--videos", str(videos), "--out", str(out), "--device", "cpu", *more]
    )


def test_layers_go_on_where_one_of_them_is_missing(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("--layers", "mean,layer:-1,last2", "--format", "lgi", "--json")
    assert extract(places, out, *words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["written"] == 2
    assert report["clips_per_second"] > 0
    assert 0 < report["encode_share"] <= 1
    assert 0 < report["decode_share"] <= 1
    assert 0 <= report["wait_share"] <= 1
    assert sorted(path.name for path in out.iterdir()) == ["last2", "layer-from-end-1", "mean"]
    assert (out / "mean" / "lgi" / "two.npy").exists()
    assert json.loads((out / "last2" / "extract.json").read_text())["readout"] == "last2"
    # The last stage of I3D is its volume.
    first, second = (FeatureStore(str(out / name)).array("two") for name in ("mean", "layer-from-end-1"))
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
    kept = (out / "last2" / "v_two.npy").read_bytes()
    (out / "last2" / "v_two.json").unlink()
    assert extract(places, out, *words) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["written"], again["skipped"]) == (1, 1)
    assert (out / "last2" / "v_two.npy").read_bytes() == kept


def test_the_report_says_where_the_time_went(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(places, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "clips/s: encoder busy" in said
    assert "waiting for clips" in said
    assert "decoding threads busy" in said


def test_what_changes_values_needs_another_folder(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert extract(places, out) == 0
    usual = json.loads((out / "extract.json").read_text())
    assert list(usual) == [
        *("format", "checkpoint", "backbone", "feature_dim", "clip_frames", "stride", "fps", "size"),
        *("short_side", "crop"),
    ]
    for words, name in (
        (("--precision", "fp16"), "precision"),
        (("--dtype", "float16"), "dtype"),
        (("--stride-seconds", "0.2"), "stride_seconds"),
    ):
        assert extract(places, out, *words) == 2
        assert f"{name} of --out" in capsys.readouterr().err
    half = tmp_path / "half"
    assert extract(places, half, "--precision", "fp16", "--dtype", "float16") == 0
    assert extract(places, half) == 2
    assert "precision of --out" in capsys.readouterr().err
    exact, rounded = FeatureStore(str(out)).array("two"), FeatureStore(str(half)).array("two")
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosine.min() >= 0.999
    assert json.loads((half / "v_two.json").read_text())["precision"] == "fp16"
    assert "precision" not in json.loads((out / "v_two.json").read_text())


def test_tokens_beside_the_usual_features(places: tuple[Path, Path], tmp_path: Path) -> None:
    assert extract(places, tmp_path / "plain") == 0
    assert extract(places, tmp_path / "out", "--keep-tokens") == 0
    for name in ("v_one.npy", "v_one.json", "extract.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    tokens = np.load(tmp_path / "out" / "tokens" / "v_one.npy")
    assert tokens.ndim == 5
    pooled = np.load(tmp_path / "out" / "v_one.npy")
    np.testing.assert_allclose(tokens.mean(axis=(1, 2, 3)), pooled, rtol=1e-4, atol=1e-5)


def test_a_stride_shorter_than_a_frame_fails_the_video_and_says_so(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    assert extract(places, tmp_path / "out", "--stride-seconds", "0.035") == 3
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert row["id"] == "one"  # 25 frames a second; the other has 30
    assert "at least one frame" in row["error"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layers", "first"), "--layers = 'first'"),
        (("--layers", "layer:99"), "has 11 stages"),
        (("--stride", "4", "--stride-seconds", "1"), "--stride says it too"),
        (("--stride-seconds", "0.01", "--fps", "10"), "--stride-seconds = 0.01"),
        (("--keep-tokens", "--crop", "three"), "--keep-tokens"),
        (("--workers", "-1"), "--workers"),
    ],
)
def test_wrong_settings_are_one_line(
    places: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    assert extract(places, tmp_path / "out", *words) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
