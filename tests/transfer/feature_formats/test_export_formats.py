"""Files for other code bases: their shapes, headers and keys, and values that come back unchanged."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from pal_ds.cli.extract import main as extract_main
from pal_ds.formats.feature_folder import FeatureError, FeatureStore
from pal_ds.formats.feature_sidecar import Sidecar, SidecarError
from pal_ds.transfer.feature_formats import FORMATS
from pal_ds.transfer.feature_formats.tables import INFO_COLUMNS, from_csv, to_csv

DATABASE = {
    "a": {"subset": "training", "annotations": [{"segment": [0.5, 1.5], "label": "Surfing"}]},
    "b": {"subset": "validation", "annotations": [{"segment": [1.0, 2.0], "label": "Archery"}]},
    "lost": {"subset": "validation", "annotations": []},
}


def sidecar(video_id: str, features: int, *, fps: float = 25.0, clip: int = 8, stride: int = 4) -> Sidecar:
    frames = (features - 1) * stride + clip + 1
    return Sidecar(
        id=video_id, source=f"{video_id}.mp4", fps=fps, clip_frames=clip, stride=stride, offset=0,
        duration=frames / fps,
        frames=frames, padded=0, features=features, feature_dim=6, sampling="native", crop="centre", size=112,
        checkpoint="0" * 64,
    )  # fmt: skip


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    generator = np.random.default_rng(0)
    for video_id, length in (("a", 5), ("b", 130), ("c", 1)):
        array = generator.standard_normal((length, 6)).astype(np.float32)
        np.save(tmp_path / f"v_{video_id}.npy", array)
        (tmp_path / f"v_{video_id}.json").write_bytes(sidecar(video_id, length).to_json())
    return FeatureStore(str(tmp_path))


def write(features: FeatureStore, name: str, out: Path) -> Path:
    FORMATS[name].write(features, str(out), DATABASE)
    return out


def test_video_info_has_the_published_columns_and_subsets(features: FeatureStore, tmp_path: Path) -> None:
    out = write(features, "bmn-csv", tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO((out / "video_info_new.csv").read_text())))
    assert tuple(rows[0]) == INFO_COLUMNS
    assert [row["video"] for row in rows] == ["v_a", "v_b", "v_c"]
    assert [row["subset"] for row in rows] == ["training", "validation", "unknown"]
    # Whole clips of 16 frames, as BMN's post-processing counts: 525 frames hold 32.
    assert (rows[1]["numFrame"], rows[1]["featureFrame"]) == ("525", "512")


def test_a_training_video_without_annotations_is_kept_from_the_readers(
    features: FeatureStore, tmp_path: Path
) -> None:
    database = {"a": {"subset": "training", "annotations": []}, "b": {"subset": "testing", "annotations": []}}
    FORMATS["anet-hdf5"].write(features, str(tmp_path / "out"), database)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "video_info_new.csv").read_text())))
    # Both readers take the maximum over a video's annotations.
    assert [row["subset"] for row in rows] == ["unannotated", "testing", "unknown"]


def test_bmn_csv_has_a_header_and_a_hundred_rows(features: FeatureStore, tmp_path: Path) -> None:
    out = write(features, "bmn-csv", tmp_path / "out")
    for video_id in "abc":
        data = (out / "csv_mean_100" / f"v_{video_id}.csv").read_bytes()
        assert from_csv(data).shape == (100, 6)
        assert len(data.splitlines()) == 101


def test_csv_keeps_float32_exactly() -> None:
    array = np.random.default_rng(1).standard_normal((20, 7)).astype(np.float32) * 1e-3
    np.testing.assert_array_equal(from_csv(to_csv(array)), array)


def test_opentad_and_actionformer_settings(features: FeatureStore, tmp_path: Path) -> None:
    opentad = write(features, "opentad", tmp_path / "opentad")
    assert (opentad / "missing_files.txt").read_text() == "lost\n"
    assert (opentad / "category_idx.txt").read_text() == "Archery\nSurfing\n"
    settings: dict[str, object] = {}
    exec((opentad / "dataset.py").read_text(), settings)
    assert (settings["feature_stride"], settings["offset_frames"], settings["in_channels"]) == (4, 4, 6)
    former = write(features, "actionformer", tmp_path / "former")
    section = yaml.safe_load((former / "dataset.yaml").read_text())["dataset"]
    assert (section["feat_stride"], section["num_frames"], section["default_fps"]) == (4, 8, 25.0)
    assert (section["num_classes"], section["input_dim"]) == (2, 6)
    rows = json.loads((former / "annotations.json").read_text())["database"]
    assert rows["a"]["annotations"] == [{"segment": [0.5, 1.5], "label": "Surfing", "label_id": 1}]
    assert rows["b"]["duration"] == features.sidecar("b").duration


def test_what_was_exported_is_imported_unchanged(features: FeatureStore, tmp_path: Path) -> None:
    annotations = tmp_path / "gt.json"
    durations = {name: {"duration": features.sidecar(name).duration, "fps": 25.0} for name in "ab"}
    annotations.write_text(json.dumps({"database": durations}))
    copies = tmp_path / "copies"
    copies.mkdir()
    for path in tmp_path.glob("v_*.npy"):
        shutil.copy(path, copies)
    kinds = {
        "hdf5": (write(features, "anet-hdf5", tmp_path / "h") / "features.h5", ["--rescaled"]),
        "npy": (copies, ["--clip-frames", "8", "--stride", "4", "--fps", "25"]),
        "csv": (write(features, "bmn-csv", tmp_path / "c") / "csv_mean_100", ["--rescaled"]),
    }
    for kind, (source, more) in kinds.items():
        out = tmp_path / f"imported-{kind}"
        words = [
            "import",
            "--kind",
            kind,
            "--features",
            str(source),
            "--out",
            str(out),
            "--annotations",
            str(annotations),
        ]
        assert extract_main([*words, *more]) == 0
        assert extract_main([*words, *more]) == 2
        found = FeatureStore(str(out))
        assert found.ids == ["a", "b"]
        for about, array in found.items():
            if kind != "npy":
                rows = 100 if kind == "csv" else len(features.array(about.id))
                assert array.shape == (rows, 6)
                np.testing.assert_allclose(about.centres(), (np.arange(rows) + 0.5) * about.duration / rows)
            else:
                np.testing.assert_array_equal(array, features.array(about.id))
                np.testing.assert_allclose(about.centres(), features.sidecar(about.id).centres())


@pytest.mark.parametrize(
    "more",
    [[], ["--clip-frames", "8"], ["--rescaled", "--fps", "5"], ["--clip-frames", "8", "--stride", "-1"]],
)
def test_import_needs_one_time_axis(
    features: FeatureStore, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.json").write_text('{"database": {"a": {"duration": 3.0}}}')
    words = [
        "import",
        "--features",
        features.url,
        "--out",
        str(tmp_path / "o"),
        "--annotations",
        str(tmp_path / "gt.json"),
    ]
    assert extract_main([*words, *more]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_sidecars_come_back_and_others_are_refused() -> None:
    about = sidecar("x", 3)
    assert Sidecar.from_json(about.to_json()) == about
    for data in (b"", b"[]", b'{"format": "pal-features/2"}', b'{"format": "pal-features/1"}'):
        with pytest.raises(SidecarError):
            Sidecar.from_json(data)


def test_array_that_contradicts_its_sidecar_is_refused(features: FeatureStore, tmp_path: Path) -> None:
    np.save(tmp_path / "v_a.npy", np.zeros((4, 6), np.float32))
    with pytest.raises(FeatureError, match="shape"):
        list(features.items())
    np.save(tmp_path / "v_a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FeatureError, match="plain"):
        features.array("a")
