"""LoFi's end-to-end stage: what it decodes, what its loss trains, an exact resume, and its backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.config.end_to_end import EndToEndConfig
from pal_ds.config.loading import build
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.video_source import list_videos
from pal_ds.transfer.head_trainer import build_task, train
from pal_ds.transfer.tasks.end_to_end_detection import EndToEndTask
from pal_ds.transfer.tasks.low_fidelity_videos import LowFidelityVideos, snippet_frames
from tests.support.extract_fixtures import make_video
from tests.support.fork_server import run_python

ROOT = Path(__file__).resolve().parents[3]
HEAD = {"name": "gtad", "snippets": 8, "durations": 8, "hidden_1d": 32, "hidden_2d": 8, "hidden_3d": 16}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three untrimmed videos of two seconds with an action each, both training and validation."""
    folder = tmp_path_factory.mktemp("untrimmed")
    database = {}
    for number, source in enumerate(("testsrc2", "mandelbrot", "smptebars")):
        make_video(folder / "videos" / f"v_clip{number}.mp4", source=source)
        annotations = [{"segment": [0.3 * number + 0.2, 0.3 * number + 1.2], "label": "turn"}]
        database[f"clip{number}"] = {"subset": "training", "duration": 2.0, "annotations": annotations}
    (folder / "few").mkdir()
    (folder / "few" / "v_clip0.mp4").symlink_to(folder / "videos" / "v_clip0.mp4")
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    scores = {video: [{"label": "turn", "score": 0.9}] for video in database}
    (folder / "scores.json").write_text(json.dumps({"results": scores}))
    return folder


def tree(folder: Path, place: str, **sections: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "run": {"dir": str(folder / place), "epochs": 2, "device": "cpu"},
        "data": {
            "videos": str(folder / "videos"),
            "annotations": str(folder / "truth.json"),
            "evaluate_subset": "training",
            "workers": 0,
        },
        "encoder": {"backbone": "random:tsm_resnet8@0.125", "size": 32, "frames": 4},
        "head": HEAD,
        "optimizer": {"lr": 1e-3, "batch": 2},
        "post": {"keep": 10},
    }
    for name, section in sections.items():
        made[name] = {**made[name], **section}
    return made


def config(folder: Path, place: str, **sections: Any) -> EndToEndConfig:
    return build(EndToEndConfig, tree(folder, place, **sections))


@given(
    count=st.integers(1, 400),
    snippets=st.integers(1, 30),
    frames=st.integers(1, 12),
    stride=st.integers(1, 9),
)
def test_snippets_lie_evenly_about_the_middle_of_their_parts(
    count: int, snippets: int, frames: int, stride: int
) -> None:
    found = snippet_frames(count, snippets, frames, stride)
    assert found.shape == (snippets, frames)
    assert found.min() >= 0
    assert found.max() <= count - 1
    assert (found.diff(dim=1) >= 0).all()
    assert (found.diff(dim=0) >= 0).all()
    for number in range(snippets):
        middle = (number + 0.5) * count / snippets
        inside = found[number].float()
        if inside.min() > 0 and inside.max() < count - 1:
            assert abs(float(inside.mean()) - middle) <= 1.5
            assert set(inside.diff().int().tolist()) <= {
                max(1, min(stride, (count - 1) // max(1, frames - 1)))
            }


def test_a_video_is_decoded_small_and_mirrored_by_seed_and_epoch(videos: Path) -> None:
    refs = list_videos(str(videos / "videos"))
    shape = {"snippets": 5, "frames": 4, "stride": 2, "size": 24}
    plain = LowFidelityVideos(refs, **shape, seed=None)[0]
    assert plain.shape == (5, 3, 4, 24, 24)
    stream = FrameStream(str(videos / "videos" / "v_clip0.mp4"))
    numbers = snippet_frames(stream.frames, 5, 4, 2)[2].tolist()
    frames = stream.read(numbers)
    small = torch.nn.functional.interpolate(frames, size=(24, 32), mode="bilinear", antialias=True)
    assert torch.equal(plain[2].transpose(0, 1), small[:, :, :, 4:28])
    drawn = LowFidelityVideos(refs, **shape, seed=3)
    seen = set()
    for epoch in range(12):
        drawn.epoch = epoch
        clip = drawn[0]
        assert torch.equal(clip, drawn[0])
        assert torch.equal(clip, plain) or torch.equal(clip, plain.flip(4))
        seen.add(torch.equal(clip, plain))
    assert seen == {True, False}


def test_the_loss_reaches_the_encoder_and_is_the_heads_on_its_features(videos: Path) -> None:
    task = build_task("e2e", config(videos, "never"))
    assert isinstance(task, EndToEndTask)
    task.model.eval()
    clips = torch.stack([task.scored[item] for item in range(2)])
    features = []
    for video in clips:
        rows = [
            task.backbone(((clip.float() / 255 - task.model.mean_c111) / task.model.std_c111)[None])[0]
            for clip in video
        ]
        features.append(torch.stack(rows, dim=1))
    expected = task.model.head(torch.stack(features))
    for one, other in zip(task.model(clips), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    task.model.train()
    task.begin_epoch([[0, 1]], 0)
    task.losses([0, 1], torch.Generator().manual_seed(0))["loss"].backward()
    assert [name for name, value in task.model.named_parameters() if value.grad is None] == []


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_by_bit_and_leaves_its_backbone(videos: Path) -> None:
    recompute = {"recompute_stages": 2}
    straight = train("e2e", config(videos, "a", encoder=recompute))
    train("e2e", config(videos, "b", run={"epochs": 1}, encoder=recompute))
    resumed = train("e2e", config(videos, "b", encoder=recompute))
    assert resumed == straight
    assert straight["task"] == "e2e"
    assert 0 <= straight["figures"]["AUC"] <= 100
    last = [(videos / run / "checkpoints/epoch-0002/model.safetensors").read_bytes() for run in "ab"]
    assert last[0] == last[1]
    before, _ = load_backbone("random:tsm_resnet8@0.125#0")
    after, spec = load_backbone(str(videos / "a/backbone.safetensors"))
    moved = [
        not torch.equal(one, other)
        for one, other in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert all(moved)
    assert spec.backbone == "tsm_resnet8"
    assert spec.digest == load_backbone(str(videos / "b/backbone.safetensors"))[1].digest


@pytest.mark.slow
def test_the_command_trains_detection_with_class_scores(videos: Path) -> None:
    made = tree(videos, "command", data={"class_scores": str(videos / "scores.json")})
    (videos / "own.yaml").write_text(json.dumps(made))
    command = ["launch/transfer.py", "--task", "e2e", "--config", str(videos / "own.yaml")]
    done = run_python([*command, "run.epochs=1"])
    assert done.returncode == 0, done.stderr
    assert "average_mAP" in json.loads(done.stdout)["figures"]
    refused = run_python([*command, "encoder.frames=0"])
    assert (refused.returncode, "encoder.frames" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"head": {"name": "actionformer"}}, "head.name"),
        ({"encoder": {"backbone": ""}}, "encoder.backbone"),
        ({"encoder": {"recompute_stages": 99}}, "encoder.recompute_stages"),
        ({"data": {"videos": "few"}}, "data.videos"),
    ],
)
def test_what_can_not_train_is_refused(videos: Path, sections: dict[str, Any], field: str) -> None:
    if sections.get("head"):
        made = {**tree(videos, "never"), "head": {"name": "actionformer", "snippets": 8}}
    else:
        made = tree(videos, "never", **sections)
    if "data" in sections:
        made["data"]["videos"] = str(videos / sections["data"]["videos"])
    with pytest.raises(ConfigError) as caught:
        build_task("e2e", build(EndToEndConfig, made))
    assert caught.value.field == field
