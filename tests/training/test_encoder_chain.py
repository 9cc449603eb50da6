"""Encoders of transformers the whole way, without a network: two ranks, an exact resume, extraction, two heads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pal_ds.cli import extract, pretrain, transfer
from pal_ds.formats.checkpoint import COMMITTED, checkpoint_name
from pal_ds.transfer.backbone_export import load_backbone
from tests.support.encoders import hub_state, write_folder
from tests.support.extract_fixtures import make_video
from tests.support.full import FULL
from tests.support.launching import Launcher, assert_equal_states, state_of, training_rows, words

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
_EXACT = ("loss", "batch_hash", "lr", "grad_norm")
_MIDDLE, _LAST = 2, 4
_COMMON = [
    *(
        "model.width=1",
        "synthesis.size=32",
        "synthesis.clip_frames=4",
        "precision=fp32",
        "queue.size=16",
        "objective.negatives=both",
    ),
    *(
        "optimizer.name=adamw",
        "optimizer.weight_decay=0.05",
        "optimizer.decay=matrices",
        "model.temporal_layers=1",
    ),
    *("validation.every_steps=0", "validation.every_epochs=0", f"checkpoint.every_steps={_MIDDLE}"),
    *("synthesis.stride_max=4", "synthesis.background_stride=4", "synthesis.stride_seconds=[0.04,0.1]"),
]
#: What each is trained with: together all that must survive a resume.
_HOW = {
    "videomae": [
        *("zero_stage=1", "optimizer.layer_decay=0.75", "model.drop_path=0.3", "model.recompute_stages=1"),
        "precision=bf16",
    ],
    "vjepa2": ["zero_stage=2", "model.lora_rank=2"],
    "dinov2": ["zero_stage=0", "model.frozen_stages=2", "model.pooling=attentive"],
}


def arguments(kind: str, data: Path, run: Path, encoder: str, steps: int) -> list[str]:
    return words(data, run, f"model.backbone={encoder}", *_COMMON, *_HOW[kind], f"run.max_steps={steps}")


def trained_and_resumed(kind: str, encoder: str, data: Path, folder: Path, launcher: Launcher) -> Path:
    """Train a run to its end; take its middle checkpoint to another place, go on there, and compare all bits."""
    whole, parts = folder / "whole", folder / "parts"
    # One of them through the real launcher.
    start = launcher.run if FULL or kind == "videomae" else launcher.run_ranks
    done = start(2, arguments(kind, data, whole, encoder, _LAST))
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.copytree(whole, parts)
    (parts / "checkpoints" / checkpoint_name(_LAST) / COMMITTED).unlink()
    done = launcher.run_ranks(2, arguments(kind, data, parts, encoder, _LAST))
    assert done.returncode == 0, done.stderr[-3000:]
    events = [json.loads(line) for line in (parts / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "resume"] == [_MIDDLE]
    one, two = training_rows(whole), training_rows(parts)
    assert list(one) == list(two) == list(range(1, _LAST + 1))
    for step in one:
        assert [one[step][name] for name in _EXACT] == [two[step][name] for name in _EXACT], step
    assert one[1]["loss"] > 0
    assert_equal_states(state_of(whole, _LAST), state_of(parts, _LAST))
    return parts


def test_videomae_from_clips_to_detections(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = write_folder(tmp_path / "encoder", "videomae")
    run = trained_and_resumed("videomae", encoder, tiny_set, tmp_path, launcher)
    # From here on the folder of the encoder is not needed.
    shutil.rmtree(tmp_path / "encoder")
    exported = tmp_path / "backbone.safetensors"
    assert pretrain.main(["export", str(run), "--out", str(exported)]) == 0
    database = {}
    for number, source in enumerate(("testsrc2", "mandelbrot")):
        make_video(tmp_path / "videos" / f"v_clip{number}.mp4", seconds=4.0, source=source)
        segments = [{"segment": [1.0 + number, 2.5 + number / 2], "label": f"action {number}"}]
        database[f"clip{number}"] = {"subset": "training", "annotations": segments}
    features = tmp_path / "features"
    places = ["--checkpoint", str(exported), "--videos", str(tmp_path / "videos"), "--out", str(features)]
    assert extract.main([*places, "--stride", "4", "--device", "cpu"]) == 0
    settings = json.loads((features / "extract.json").read_text())
    assert (settings["backbone"], settings["feature_dim"], settings["clip_frames"]) == ("hf:videomae", 32, 4)
    assert settings["checkpoint"] == load_backbone(str(run))[1].digest
    assert np.isfinite(np.load(features / "v_clip0.npy")).all()
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"database": database}))
    small = {
        "tad_activitynet_gtad": [
            "head.snippets=20",
            "head.durations=20",
            "head.hidden_1d=32",
            "head.hidden_3d=16",
        ],
        "tad_activitynet_actionformer": ["head.snippets=32"],
    }
    for name, head in small.items():
        config = ROOT / f"configs/transfer/{name}.yaml"
        places = [f"data.features={features}", f"data.annotations={truth}", f"run.dir={tmp_path / name}"]
        how = ["data.evaluate_subset=training", "run.epochs=1", "run.device=cpu", *head]
        capsys.readouterr()
        assert transfer.main(["--task", "tad", "--config", str(config), *places, *how]) == 0
        out = capsys.readouterr().out
        assert 0 < json.loads(out)["figures"]["average_mAP"] <= 100


@pytest.mark.parametrize("kind", ["vjepa2", "dinov2"])
def test_others_resume_to_the_last_bit(kind: str, tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    encoder = write_folder(tmp_path / "encoder", kind, hub_state(kind))
    run = trained_and_resumed(kind, encoder, tiny_set, tmp_path, launcher)
    state = state_of(run, _LAST)
    if kind == "vjepa2":
        moving = {name for name in state["optimizer"] if ".backbone." in name}
        assert moving and all(".lora_" in name for name in moving)
    backbone, spec = load_backbone(str(run))
    assert spec.backbone == f"hf:{kind}"
    # The frozen part is what was published, in all runs alike.
    published = hub_state(kind)
    frozen = next(
        value for name, value in published.items() if name.endswith(("proj.weight", "projection.weight"))
    )
    assert any(
        value.shape == frozen.shape and bool((value == frozen).all())
        for value in backbone.state_dict().values()
    )
