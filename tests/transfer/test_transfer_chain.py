"""The whole way: videos, a checkpoint, extraction, a head, its predictions, pal-eval; real commands."""

import json
from pathlib import Path

import pytest

from tests.support.extract_fixtures import make_video, write_checkpoint
from tests.support.fork_server import run_python

ROOT = Path(__file__).parents[2]


def run(*words):
    done = run_python(words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_videos_to_map(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "run")
    database = {}
    for number, source in enumerate(("testsrc2", "mandelbrot", "smptebars")):
        make_video(tmp_path / "videos" / f"v_clip{number}.mp4", seconds=6.0, source=source)
        segments = [{"segment": [1.0 + number, 3.5 + number / 2], "label": f"action {number}"}]
        database[f"clip{number}"] = {"subset": "training", "annotations": segments}
    features = tmp_path / "features"
    run(ROOT / "launch/extract.py", "--checkpoint", checkpoint, "--videos", tmp_path / "videos", "--out", features,
        "--stride", 4, "--device", "cpu")  # fmt: skip
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"database": database}))
    config = ROOT / "configs/transfer/tad_activitynet_gtad.yaml"
    out = run(ROOT / "launch/transfer.py", "--task", "tad", "--config", config,
              f"data.features={features}", f"data.annotations={truth}", "data.evaluate_subset=training",
              f"run.dir={tmp_path / 'tad'}", "run.epochs=2", "run.device=cpu", "head.snippets=20",
              "head.durations=20",
              "head.hidden_1d=32", "head.hidden_3d=16", "post.boundary=none")  # fmt: skip
    result = json.loads(out)
    scored = run("-m", "pal_ds.cli.evaluate", "detection", "--ground-truth", truth, "--subset", "training",
                 "--predictions", tmp_path / "tad" / "predictions.json", "--json")  # fmt: skip
    assert json.loads(scored) == result["figures"]
    assert result["figures"]["average_mAP"] > 0
