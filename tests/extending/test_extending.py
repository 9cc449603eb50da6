"""A backbone, an objective, a head and a feature format, each added by one file and used by the real command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.extract_fixtures import make_video, write_checkpoint
from tests.support.fork_server import run_python
from tests.support.launching import words
from tests.support.synthetic_localization import make_set

pytestmark = pytest.mark.slow


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of this folder's files as users would run theirs."""
    return run_python([Path(__file__).with_name(script), *arguments])


@pytest.mark.parametrize(
    ("script", "settings", "wrong"),
    [
        ("own_backbone.py", ["model.backbone=two_convolutions"], "model.same_padding=false"),
        (
            "own_objective.py",
            ["objective.name=rotation", "synthesis.views=1", "queue.mask_unfilled=false"],
            "objective.margin=0.5",
        ),
    ],
)
def test_pre_training_with_an_own_part(
    script: str, settings: list[str], wrong: str, tiny_set: Path, tmp_path: Path
) -> None:
    base = words(tiny_set, tmp_path / "run", "run.max_steps=4", "data.workers=0")
    done = run(script, *base, *settings)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    refused = run(script, *base, *settings, wrong)
    assert refused.returncode == 2
    assert f"{wrong.partition('=')[0]} = " in refused.stderr
    assert "no effect" in refused.stderr


def test_a_head_of_ones_own(tmp_path: Path) -> None:
    folder = make_set(tmp_path, videos=4, length=40, channels=8)
    (tmp_path / "own.yaml").write_text(
        "optimizer: {batch: 4}\nhead: {name: separable, snippets: 16, durations: 16, own: 8}\n"
    )
    places = [f"data.features={folder / 'features'}", f"data.annotations={folder / 'truth.json'}"]
    arguments = ["--task", "apg", "--config", tmp_path / "own.yaml", *places, f"run.dir={tmp_path / 'run'}"]
    done = run("own_head.py", *arguments, "run.epochs=2", "run.device=cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["head"] == "separable"
    refused = run("own_head.py", *arguments, "head.layout=start-end")
    assert (refused.returncode, "head.layout" in refused.stderr) == (2, True)
    assert "head.own" in run("own_head.py", "--options").stdout


def test_a_feature_format_of_ones_own(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "run")
    make_video(tmp_path / "videos" / "v_one.mp4")
    done = run(
        *("own_feature_format.py", "--checkpoint", checkpoint, "--videos", tmp_path / "videos"),
        *("--out", tmp_path / "features", "--format", "npz", "--stride", 4, "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "features").rglob("features.npz")
    with np.load(written) as features:
        assert np.array_equal(features["one"], np.load(tmp_path / "features" / "v_one.npy"))
