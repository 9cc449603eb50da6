"""Fig. 3 measured on annotated videos: the scores, the choice of videos, the command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pal_ds.viz.comparison import Version, compare
from pal_ds.viz.figure3 import FIGURES, main, means


def one_hot_moments(count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)


def test_an_encoder_that_knows_the_moment_localises_a_moved_action() -> None:
    frames = np.concatenate([np.arange(24, 40), np.arange(24), np.arange(40, 80)])
    version = Version(title="earlier", frames=frames, action=(0, 16))
    clips = one_hot_moments(10)
    order = frames.reshape(10, 8)[:, 0] // 8
    found = compare(clips, clips[order], version, 8, 8, (24, 40))
    assert found.localised == 1.0
    assert found.found == 1.0
    assert 0 < found.localised_chance < 0.3


def test_an_encoder_that_sees_no_difference_localises_by_chance() -> None:
    version = Version(title="as it was", frames=np.arange(80), action=(24, 40))
    same = np.ones((10, 3), dtype=np.float32)
    found = compare(same, same, version, 8, 8, (24, 40))
    assert found.localised < 0.5
    assert found.localised_chance == pytest.approx(
        np.mean([
            len(set(range(a, b + 1)) & {3, 4}) / len(set(range(a, b + 1)) | {3, 4})
            for a in range(10) for b in range(a, 10)
        ])
    )  # fmt: skip


def test_an_action_shorter_than_a_clip_step_has_no_figure_and_is_left_out_of_the_mean() -> None:
    version = Version(title="", frames=np.arange(80), action=(25, 27))
    clips = one_hot_moments(10)
    nothing = compare(clips, clips, version, 8, 8, (25, 27))
    assert np.isnan(nothing.localised)
    whole = compare(clips, clips, Version(title="", frames=np.arange(80), action=(24, 40)), 8, 8, (24, 40))
    assert means([nothing, whole])["localised"] == whole.localised
    assert means([nothing])["localised"] is None


@pytest.mark.slow
def test_command_measures_and_draws_annotated_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("v_a", "v_b"):
        source = ["-f", "lavfi", "-i", "testsrc2=s=48x48:r=8:d=8"]
        subprocess.run(["ffmpeg", "-v", "error", *source, str(videos / f"{name}.mp4")], check=True)
    rows = [{"segment": [3.0, 5.5], "label": "x"}, {"segment": [1.0, 1.5], "label": "y"}]
    subprocess.run(["cp", str(videos / "v_a.mp4"), str(videos / "v_c.mp4")], check=True)
    database = {
        name: {"subset": "validation", "duration": 8.0, "annotations": rows} for name in ("a", "b", "absent")
    }
    whole = [{"segment": [0.0, 8.0], "label": "x"}]
    database["c"] = {"subset": "validation", "duration": 8.0, "annotations": whole}
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    words = ["--checkpoint", "random:i3d@0.125", "--size", "32", "--videos", str(videos)]
    out = tmp_path / "out"
    annotated = [*words, "--annotations", str(tmp_path / "truth.json"), "--draw", "1"]
    assert main([*annotated, "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "figure3.json").read_text())
    assert printed["videos"] == 2
    assert len(printed["skipped"]) == 1 and "the whole video is action" in printed["skipped"][0]
    assert set(printed["encoders"]["random:i3d@0.125"]) == set(FIGURES)
    assert (out / "index.html").read_text().count("<img") == 1
    assert main([*words, "--out", str(out)]) == 2
    assert "--action START END" in capsys.readouterr().err
