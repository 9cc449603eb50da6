"""Every exported format read by its real reader's rule: the times that the reader computes are the features' own.

Channel 0 of every feature holds the second at which it is centred, so that a row, however it was resized, says
which time it stands for.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray

from pal_ds.config.base import ConfigError
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.transfer.feature_formats import FORMATS

FPS = 25.0
#: id -> (clip frames, frames)
VIDEOS = {"video_validation_1": 509, "video_test_2": 1203, "video_test_3": 90}
DATABASE: dict[str, Any] = {
    "video_validation_1": {
        "subset": "training",
        "annotations": [{"segment": [2.0, 7.12], "label": "Surfing"}, {"segment": [9.0, 9.5], "label": "Diving"}],
    },
    "video_test_2": {
        "subset": "validation", "annotations": [{"segment": [10.0, 40.04], "label": "Surfing"}],
    },
    "video_test_3": {"subset": "validation", "annotations": [{"segment": [0.4, 2.0], "label": "Surfing"}]},
    "never_extracted": {"subset": "training", "annotations": [{"segment": [1.0, 2.0], "label": "Archery"}]},
}  # fmt: skip


def store(folder: Path, *, clip: int, stride: int) -> FeatureStore:
    folder.mkdir()
    for video, frames in VIDEOS.items():
        length = (frames - clip) // stride + 1
        sidecar = Sidecar(
            id=video, source=f"{video}.mp4", fps=FPS, clip_frames=clip, stride=stride, offset=0,
            duration=frames / FPS, frames=frames, padded=0, features=length, feature_dim=3, sampling="native",
            crop="centre", size=112, checkpoint="0" * 64,
        )  # fmt: skip
        values = np.random.default_rng(0).standard_normal((length, 3)).astype(np.float32)
        values[:, 0] = sidecar.centres()
        np.save(folder / f"v_{video}.npy", values)
        (folder / f"v_{video}.json").write_bytes(sidecar.to_json())
    return FeatureStore(str(folder))


def written(features: FeatureStore, name: str, out: Path) -> Path:
    FORMATS[name].write(features, str(out), DATABASE)
    return out


def held(times: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Before the first and after the last centre the nearest feature is all there is."""
    return np.clip(times, centres[0], centres[-1])


GRIDS = [(8, 4), (8, 8), (15, 4), (16, 5)]


@pytest.mark.parametrize(("clip", "stride"), GRIDS)
def test_gtad_activitynet(clip: int, stride: int, tmp_path: Path) -> None:
    features = store(tmp_path / "features", clip=clip, stride=stride)
    out = written(features, "anet-hdf5", tmp_path / "out")
    lists = json.loads((out / "anet_anno_action.json").read_text())
    with (out / "video_info_new.csv").open() as file:
        names = [row["video"] for row in csv.DictReader(file)]
    with h5py.File(out / "features.h5") as file:
        for name in names:
            info = lists[name]
            # The reader: linear interpolation to 100, ends not aligned; its seconds from three of the fields.
            rows = torch.from_numpy(file[name][()]).T[None]
            read = F.interpolate(rows, size=100, mode="linear", align_corners=False)[0, 0].double().numpy()
            seconds = info["feature_frame"] / info["duration_frame"] * info["duration_second"]
            centres = features.sidecar(name.removeprefix("v_")).centres()
            believed = (np.arange(100) + 0.5) / 100 * seconds
            # Next to both ends a row stands for the first or last feature.
            row = seconds / rows.shape[2]
            inner = (believed > centres[0] + row) & (believed < centres[-1] - row)
            assert inner.sum() > 60
            assert np.abs(read - believed)[inner].max() < 0.1 / FPS
    parts = lists["v_video_validation_1"]["annotations"]
    assert parts == DATABASE["video_validation_1"]["annotations"]


@pytest.mark.parametrize(("clip", "stride"), GRIDS)
def test_bmn(clip: int, stride: int, tmp_path: Path) -> None:
    features = store(tmp_path / "features", clip=clip, stride=stride)
    out = written(features, "bmn-csv", tmp_path / "out")
    lists = json.loads((out / "anet_anno_action.json").read_text())
    for name, info in lists.items():
        with (out / "csv_mean_100" / f"{name}.csv").open() as file:
            read = np.array([float(row["f0"]) for row in csv.DictReader(file)])
        seconds = info["feature_frame"] / info["duration_frame"] * info["duration_second"]
        # What its post-processing turns shares of the video into; training and inference have to agree.
        after = info["duration_frame"] // 16 * 16 / info["duration_frame"] * info["duration_second"]
        assert seconds == pytest.approx(after)
        centres = features.sidecar(name.removeprefix("v_")).centres()
        edges = held(np.arange(101) / 100 * seconds, centres)
        np.testing.assert_allclose(read, (edges[:-1] + edges[1:]) / 2, atol=1e-5)
        within = (edges[:-1] > centres[0]) & (edges[1:] < centres[-1])
        believed = (np.arange(100) + 0.5) / 100 * seconds
        assert np.abs(read - believed)[within].max() < 1e-4


@pytest.mark.parametrize(("clip", "stride"), GRIDS)
def test_gtad_thumos(clip: int, stride: int, tmp_path: Path) -> None:
    features = store(tmp_path / "features", clip=clip, stride=stride)
    out = written(features, "gtad-thumos", tmp_path / "out")
    found = []
    for part in ("val", "test"):
        with (out / f"{part}_Annotation.csv").open() as file:
            rows = list(csv.DictReader(file))
        with h5py.File(out / f"flow_{part}.h5") as flow, h5py.File(out / f"rgb_{part}.h5") as rgb:
            for name in sorted({row["video"] for row in rows}):
                assert part in name
                streams = [flow[name][::5, ...], rgb[name][::5, ...]]
                count = min(stream.shape[0] for stream in streams)
                joined = np.concatenate([stream[:count, :] for stream in streams], axis=1)
                assert joined.shape[1] == 3
                # Snippet i is frame 5i, as are the frames of the annotations.
                seconds = held(5 * np.arange(count) / FPS, features.sidecar(name).centres())
                np.testing.assert_allclose(joined[:, 0], seconds, atol=1e-5)
                found.append(name)
        first = next((row for row in rows if row["video"] == "video_validation_1"), None)
        assert first is None or (float(first["startFrame"]), float(first["endFrame"])) == (50.0, 178.0)
    assert sorted(found) == sorted(VIDEOS)


def test_gtad_thumos_refuses_ids_its_reader_cannot_place(tmp_path: Path) -> None:
    features = store(tmp_path / "features", clip=8, stride=4)
    for suffix in ("npy", "json"):
        (tmp_path / "features" / f"v_video_test_3.{suffix}").rename(tmp_path / "features" / f"v_x.{suffix}")
    features = FeatureStore(features.url)
    with pytest.raises(ConfigError, match="'x' has neither"):
        FORMATS["gtad-thumos"].write(features, str(tmp_path / "out"), DATABASE)


@pytest.mark.parametrize(("clip", "stride"), GRIDS)
def test_lgi(clip: int, stride: int, tmp_path: Path) -> None:
    features = store(tmp_path / "features", clip=clip, stride=stride)
    out = written(features, "lgi", tmp_path / "out")
    for name, frames in VIDEOS.items():
        read = np.load(out / f"{name}.npy").squeeze()
        # A time stamp t becomes row round(t / duration * T): row k stands for [k, k + 1] / T of the video.
        believed = (np.arange(len(read)) + 0.5) / len(read) * frames / FPS
        np.testing.assert_allclose(read[:, 0], held(believed, features.sidecar(name).centres()), atol=1e-4)


@pytest.mark.parametrize(("clip", "stride"), GRIDS)
def test_opentad(clip: int, stride: int, tmp_path: Path) -> None:
    features = store(tmp_path / "features", clip=clip, stride=stride)
    out = written(features, "opentad", tmp_path / "out")
    settings: dict[str, Any] = {}
    exec((out / "dataset.py").read_text(), settings)
    database = json.loads(Path(settings["annotation_path"]).read_text())["database"]
    blocked = Path(settings["block_list"]).read_text().splitlines()
    classes = Path(settings["class_map"]).read_text().splitlines()
    assert len(classes) == settings["num_classes"]
    for name, info in database.items():
        assert name not in blocked
        read = np.load(Path(settings["data_path"]) / f"{settings['feature_prefix']}{name}.npy")
        offset, snippet = int(settings["offset_frames"]), int(settings["feature_stride"])
        for fps in (settings["fps"], info["frame"] / info["duration"]):
            seconds = (np.arange(len(read)) * snippet + offset) / fps
            np.testing.assert_allclose(seconds, read[:, 0], atol=1e-5)
        for part in info["annotations"]:
            assert part["label"] in classes
            start = int(part["segment"][0] / info["duration"] * info["frame"]) / settings["fps"]
            assert part["segment"][0] - start < 1 / FPS


def test_opentad_counts_odd_clips_in_half_frames(tmp_path: Path) -> None:
    features = store(tmp_path / "features", clip=15, stride=4)
    settings: dict[str, Any] = {}
    exec((written(features, "opentad", tmp_path / "out") / "dataset.py").read_text(), settings)
    assert (settings["feature_stride"], settings["offset_frames"], settings["fps"]) == (8, 15, 50.0)


@pytest.mark.parametrize(("clip", "stride"), GRIDS)
def test_actionformer(clip: int, stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "features", clip=clip, stride=stride)
    # A relative destination: what is written means the same from any working folder.
    monkeypatch.chdir(tmp_path)
    FORMATS["actionformer"].write(FeatureStore("features"), "features/actionformer", DATABASE)
    monkeypatch.chdir("/")
    section = yaml.safe_load((tmp_path / "features/actionformer/dataset.yaml").read_text())["dataset"]
    database = json.loads(Path(section["json_file"]).read_text())["database"]
    labels = {part["label"]: part["label_id"] for row in database.values() for part in row["annotations"]}
    # The reader's assertion; Archery is annotated in a video that has no features.
    assert len(labels) == section["num_classes"] == 2
    assert sorted(labels.values()) == [0, 1]
    for name, row in database.items():
        read = np.load(f"{section['feat_folder']}/{section['file_prefix']}{name}{section['file_ext']}")
        fps = section["default_fps"] or row["fps"]
        offset = 0.5 * section["num_frames"] / section["feat_stride"]
        seconds = (np.arange(len(read)) + offset) * section["feat_stride"] / fps
        np.testing.assert_allclose(seconds, read[:, 0], atol=1e-5)
