import dataclasses
import hashlib
import io
import json
import tarfile

import pytest
import safetensors.torch
import torch

from pal_ds.config.base import ConfigError
from pal_ds.config.loading import build
from pal_ds.config.tac import TacConfig
from pal_ds.formats.backbone_file import BackboneError
from pal_ds.formats.feature_folder import FeatureError
from pal_ds.formats.shardset import (
    Manifest,
    SampleEntry,
    SampleRecord,
    ShardEntry,
    ShardIndex,
    SplitEntry,
    index_name,
    shard_name,
)
from pal_ds.transfer.head_trainer import build_task, train
from pal_ds.transfer.metrics.evaluate import evaluate
from pal_ds.transfer.tasks.labelled_clips import LabelledClips
from tests.support.extract_fixtures import make_video, write_checkpoint

PICTURES = {"bars": "smptebars", "fractal": "mandelbrot", "test": "testsrc2"}


def pack(folder, split, videos, labels):
    """Write one labelled split as the sharder does; give its entry."""
    name = shard_name(split, 0)
    samples = []
    with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path, label in zip(videos, labels, strict=True):
            data = path.read_bytes()
            record = SampleRecord(
                key=path.stem,
                source=path.name,
                start=0.0,
                end=1.0,
                duration=1.0,
                fps=25.0,
                frames=25,
                width=64,
                height=48,
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                label=label,
            )
            first = tar.offset
            for member, content in ((f"{path.stem}.mp4", data), (f"{path.stem}.json", record.to_json())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            samples.append(
                SampleEntry(key=path.stem, offset=first, size=tar.offset - first, frames=25, fps=25.0)
            )
    data = (folder / name).read_bytes()
    (folder / index_name(name)).write_bytes(ShardIndex(shard=name, samples=tuple(samples)).to_json())
    entry = ShardEntry(name=name, clips=len(videos), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    return SplitEntry(
        clips=len(videos), frames=25 * len(videos), seconds=1.0, bytes=len(data), shards=(entry,)
    )


@pytest.fixture(scope="module")
def labelled_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("tac")
    folder = root / "set"
    folder.mkdir()
    videos, labels = [], []
    for label, source in PICTURES.items():
        for number, size in enumerate(("64x48", "48x64")):
            path = root / f"{label}{number}.mp4"
            make_video(path, seconds=1.0, size=size, source=source)
            videos.append(path)
            labels.append(label)
    splits = {split: pack(folder, split, videos, labels) for split in ("train", "val")}
    manifest = Manifest(recipe={}, splits=splits, labels=tuple(sorted(PICTURES)))
    (folder / "manifest.json").write_bytes(manifest.to_json())
    checkpoint = write_checkpoint(root / "run")
    see_videos(root, checkpoint)
    return root


def see_videos(root, checkpoint):
    """Give the random backbone running statistics of these videos: a signal passes all its layers then."""
    task = build_task("tac", config(root, "unused"))
    clips = torch.cat([task.evaluated[item][0] for item in range(6)])
    task.model.train()
    with torch.no_grad():
        for _ in range(40):
            task.model(clips)
    seen = {
        f"query_encoder.backbone.{k}": v.contiguous() for k, v in task.model.backbone.state_dict().items()
    }
    tensors = safetensors.torch.load_file(checkpoint / "model.safetensors") | seen
    safetensors.torch.save_file(tensors, checkpoint / "model.safetensors")


def config(root, folder, **sections):
    tree = {
        "run": {"dir": str(folder), "epochs": 1, "device": "cpu", **sections.get("run", {})},
        "data": {
            "shards": str(root / "set"),
            "clips": 2,
            "stride": 2,
            "workers": 0,
            **sections.get("data", {}),
        },
        "model": {"backbone": str(root / "run"), "dropout": 0.0, **sections.get("model", {})},
        "optimizer": {"lr": 1e-2, "batch": 6, "drop_after": [], "weight_decay": 0.0},
    }
    return build(TacConfig, tree)


def test_clips_are_functions_of_seed_epoch_and_item(labelled_set):
    data = config(labelled_set, "x").data
    one, two = (LabelledClips(data, "train", frames=8, size=32, seed=0) for _ in range(2))
    clip, label, key = one[1]
    assert clip.shape == (1, 3, 8, 32, 32)
    assert clip.dtype == torch.uint8
    assert torch.equal(clip, two[1][0])
    assert key.startswith(one.labels[label])
    two.epoch = 1
    assert not torch.equal(clip, two[1][0])
    spaced = LabelledClips(data, "val", frames=8, size=32, seed=None)
    assert spaced[0][0].shape == (2, 3, 8, 32, 32)


def test_short_videos_lower_the_stride(labelled_set):
    data = dataclasses.replace(config(labelled_set, "x").data, stride=50)
    clips = LabelledClips(data, "val", frames=8, size=32, seed=None)
    assert clips[0][0].shape == (2, 3, 8, 32, 32)


@pytest.mark.slow
def test_a_backbone_is_fine_tuned(labelled_set, tmp_path):
    settings = config(labelled_set, tmp_path, run={"epochs": 35}, data={"smallest": 0.8})
    before = build_task("tac", settings).model.state_dict()
    result = train("tac", settings)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # Six videos in one batch: what a network of this size does with its own running statistics says nothing.
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert 0 <= result["figures"]["top1"] <= result["figures"]["top5"] == 100.0
    after = safetensors.torch.load_file(tmp_path / "checkpoints" / "epoch-0035" / "model.safetensors")
    moved = [
        name for name in before if name.startswith("backbone.") and not torch.equal(before[name], after[name])
    ]
    assert len(moved) == sum(name.startswith("backbone.") for name in before)


@pytest.mark.slow
def test_a_probe_tells_the_videos_apart(labelled_set, tmp_path):
    settings = config(
        labelled_set, tmp_path, run={"epochs": 40}, model={"frozen": True}, data={"smallest": 0.8}
    )
    result = train("tac", settings)
    assert result["figures"]["top1"] >= 95
    results = json.loads((tmp_path / "predictions.json").read_text())["results"]
    assert len(results) == 6
    assert all(row["label"] in PICTURES for rows in results.values() for row in rows)
    figures = evaluate(
        "classification", str(tmp_path / "truth.json"), str(tmp_path / "predictions.json")
    ).figures
    assert figures == result["figures"]


def test_a_frozen_backbone_does_not_move(labelled_set, tmp_path):
    settings = config(labelled_set, tmp_path, run={"epochs": 2}, model={"frozen": True})
    before = build_task("tac", settings).model.state_dict()
    train("tac", settings)
    after = safetensors.torch.load_file(tmp_path / "checkpoints" / "epoch-0002" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_sets_without_labels_or_split_are_refused(labelled_set, tmp_path):
    with pytest.raises(ConfigError, match=r"'none': .* has train, val"):
        build_task("tac", config(labelled_set, tmp_path, data={"evaluate_split": "none"}))
    with pytest.raises(BackboneError, match="random:NAME"):
        build_task("tac", config(labelled_set, tmp_path, model={"backbone": "random:vgg"}))
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "manifest.json").write_bytes(Manifest(recipe={}, splits={}).to_json())
    with pytest.raises(ConfigError, match="--with-labels"):
        build_task("tac", config(labelled_set, tmp_path, data={"shards": str(plain)}))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_video_is_named_in_one_line(labelled_set, tmp_path, workers):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    folder = tmp_path / "set"
    folder.mkdir()
    splits = {split: pack(folder, split, [broken], ["bars"]) for split in ("train", "val")}
    (folder / "manifest.json").write_bytes(
        Manifest(recipe={}, splits=splits, labels=("bars", "test")).to_json()
    )
    settings = config(labelled_set, tmp_path / "run", data={"shards": str(folder), "workers": workers})
    with pytest.raises(FeatureError) as caught:
        train("tac", settings)
    assert str(caught.value).startswith("train-000000.tar/broken: ")
    assert "\n" not in str(caught.value)
    assert json.loads((tmp_path / "run" / "STATUS.json").read_text())["state"] == "failed"
