"""Principal components of clip features, and their page."""

from __future__ import annotations

import json
from pathlib import Path as FilePath

import numpy as np
import pytest

from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name
from pal_ds.viz.trajectory import Path, main, principal_components, separation


def write(folder: FilePath, video: str, values: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    sidecar = Sidecar(
        id=video, source=video, fps=8.0, clip_frames=8, stride=8, offset=0, duration=float(len(values)),
        frames=8 * len(values), padded=0, features=len(values), feature_dim=values.shape[1], sampling="native",
        crop="centre", size=112, checkpoint="none",
    )  # fmt: skip
    np.save(folder / array_name(video), values.astype(np.float32))
    (folder / sidecar_name(video)).write_bytes(sidecar.to_json())


def test_components_are_the_axes_of_a_stretched_cloud() -> None:
    draw = np.random.default_rng(0)
    cloud = draw.normal(size=(4000, 3)) * [0.1, 3.0, 1.0] + [5.0, 0.0, -2.0]
    mean, directions, share = principal_components(cloud, 2)
    np.testing.assert_allclose(mean, [5, 0, -2], atol=0.2)
    np.testing.assert_allclose(directions, [[0, 1, 0], [0, 0, 1]], atol=0.05)
    assert share[0] == pytest.approx(0.9, abs=0.02)


def test_equal_features_have_no_components_and_no_separation() -> None:
    _, _, share = principal_components(np.ones((5, 4)), 2)
    assert share.tolist() == [0, 0]


def test_separation_by_hand() -> None:
    times = np.arange(8) + 0.5
    places = np.where((times > 2) & (times < 4), 10.0, 0.0)[:, None] + np.tile([-1.0, 1.0], 4)[:, None]
    path = Path(video="v", times_t=times, places_tk=places, actions=((2.0, 4.0, "jump"),))
    assert separation([path]) == pytest.approx(10.0)
    assert np.isnan(separation([Path(video="v", times_t=times, places_tk=places, actions=())]))


def test_page_of_a_folder(tmp_path: FilePath, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(1)
    write(tmp_path / "features", "one", draw.normal(size=(20, 6)))
    annotations = {
        "one": {"subset": "validation", "duration": 20, "annotations": [{"segment": [3, 8], "label": "<b>"}]}
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": annotations}))
    words = ["--features", str(tmp_path / "features"), "--annotations", str(tmp_path / "truth.json")]
    assert main([*words, "--out", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text()
    assert "one" in html and "data:image/png" in html and "Variance explained" in html
    assert main([*words, "--subset", "test", "--out", str(tmp_path / "page.html")]) == 2
    assert "no video in subset 'test'" in capsys.readouterr().err
