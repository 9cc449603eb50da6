"""Readers written by docs/formats.md alone (standard library, torch, safetensors) read what the commands write."""

import ast
import hashlib
import io
import json
import re
import struct
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.support.launching import Launcher, make_set, words

STEPS = 3


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["format"] == "pal-shardset/1"
    return manifest


def read_samples(folder: Path, shard: str) -> list[tuple[dict[str, Any], bytes]]:
    """Read every sample of a shard by its own range of bytes."""
    index = json.loads((folder / f"{shard.removesuffix('.tar')}.index.json").read_text())
    assert (index["format"], index["shard"]) == ("pal-shard-index/1", shard)
    content = (folder / shard).read_bytes()
    samples = []
    for place in index["samples"]:
        piece = content[place["offset"] : place["offset"] + place["size"]]
        members = {}
        with tarfile.open(fileobj=io.BytesIO(piece)) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                assert key == place["key"]
                file = tar.extractfile(member)
                assert file is not None
                members[extension] = file.read()
        record = json.loads(members.pop("json"))
        (video,) = members.values()
        assert record["frames"] == place["frames"]
        samples.append((record, video))
    return samples


def newest_checkpoint(run: Path) -> Path:
    """Find the highest committed step and check its files."""
    folders = [
        folder
        for folder in (run / "checkpoints").iterdir()
        if re.fullmatch(r"step-\d{8}", folder.name) and (folder / "COMMITTED").exists()
    ]
    newest = max(folders)
    committed = json.loads((newest / "COMMITTED").read_text())
    for name, said in committed["files"].items():
        content = (newest / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (said["bytes"], said["sha256"])
    assert set(committed["files"]) == {"model.safetensors", "optimizer.safetensors", "state.json"}
    assert newest.name == f"step-{committed['step']:08d}"
    return newest


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(str(path), "pt") as file:
        return file.metadata()


def read_npy(path: Path) -> torch.Tensor:
    """Read float32 [T, C] by the layout of npy 1.0."""
    content = path.read_bytes()
    assert content[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", content[8:10])
    header = ast.literal_eval(content[10 : 10 + length].decode())
    assert (header["descr"], header["fortran_order"]) == ("<f4", False)
    return torch.frombuffer(bytearray(content[10 + length :]), dtype=torch.float32).reshape(header["shape"])


def digest_of(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Written(NamedTuple):
    """What the commands wrote."""

    shards: Path
    run: Path
    export: Path
    hub: Path
    features: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Written:
    """A shard set, a run of three steps, its export and features of a video, each by its own command."""
    work = tmp_path_factory.mktemp("written")
    made = work / "made"
    made.mkdir()
    shards = make_set(made, clips=24)
    run, export, hub, features = (work / name for name in ("run", "backbone.safetensors", "hub", "features"))
    video = work / "one.mp4"
    record, content = read_samples(shards, read_manifest(shards)["splits"]["val"]["shards"][0]["name"])[0]
    assert record["bytes"] == len(content)
    video.write_bytes(content)
    commands = (
        ("launch/pretrain.py", words(shards, run, f"run.max_steps={STEPS}", "checkpoint.every_steps=2")),
        ("launch/pretrain.py", ["export", str(run), "--out", str(export), "--hub", str(hub)]),
        (
            "launch/extract.py",
            [
                *("--checkpoint", str(run), "--videos", str(video), "--out", str(features)),
                *("--device", "cpu", "--stride", "2"),
            ],
        ),
    )
    for script, arguments in commands:
        done = launcher.run_ranks(0, arguments, script=script)
        assert done.returncode == 0, done.stderr
    return Written(shards, run, export, hub, features)


@pytest.mark.slow
def test_shard_set(written: Written):
    manifest = read_manifest(written.shards)
    rejects = (written.shards / "rejects.jsonl").read_text().splitlines()
    assert len(rejects) == manifest["rejected"]
    assert set(manifest["splits"]) == {"train", "val"}
    keys = set()
    for split in manifest["splits"].values():
        records = []
        for shard in split["shards"]:
            content = (written.shards / shard["name"]).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])
            samples = read_samples(written.shards, shard["name"])
            assert len(samples) == shard["clips"]
            for record, video in samples:
                assert record["key"] == hashlib.sha256(record["source"].encode()).hexdigest()[:20]
                assert hashlib.sha256(video).hexdigest() == record["sha256"]
                assert record.get("label") in manifest.get("labels", [None])
            records += [record for record, _ in samples]
        assert split["clips"] == len(records)
        assert split["frames"] == sum(record["frames"] for record in records)
        keys |= {record["key"] for record in records}
    assert len(keys) == sum(split["clips"] for split in manifest["splits"].values())


@pytest.mark.slow
def test_run_folder(written: Written):
    status = json.loads((written.run / "STATUS.json").read_text())
    assert status == {"state": "done", "step": STEPS}
    rows = [json.loads(line) for line in (written.run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "val_loss" in row] == [0, STEPS]
    training = [row for row in rows if "loss" in row]
    assert [row["step"] for row in training] == [1, 2, 3]
    assert all(re.fullmatch(r"[0-9a-f]{16}", row["batch_hash"]) for row in training)
    assert {"loss", "lr", "videos_per_second", "data_wait", "grad_norm", "queue_fill", "memory_mb"} <= set(
        training[0]
    )
    events = [json.loads(line)["event"] for line in (written.run / "events.jsonl").read_text().splitlines()]
    assert events[0] == "start"
    assert events[-1] == "done"
    assert metadata_of(written.run / "untrained.safetensors")["format"] == "pal-backbone/1"
    assert (written.run / "config.yaml").exists()
    assert set(json.loads((written.run / "environment.json").read_text())) == {
        *("versions", "device", "world_size", "hosts", "cores", "commit")
    }


@pytest.mark.slow
def test_checkpoint(written: Written):
    folder = newest_checkpoint(written.run)
    state = json.loads((folder / "state.json").read_text())
    assert set(state) == {
        *("format", "step", "epoch", "identity", "config", "seed", "lanes", "schedule", "scaler"),
        *("skipped_in_a_row", "versions", "world_size"),
    }
    assert (state["format"], state["step"]) == ("pal-checkpoint/1", STEPS)
    manifest = (written.shards / "manifest.json").read_bytes()
    assert state["identity"]["manifest"] == hashlib.sha256(manifest).hexdigest()
    assert set(state["schedule"]) == {"scale", "best", "bad", "cooldown"}
    assert metadata_of(folder / "model.safetensors") == {"format": "pal-checkpoint/1"}
    model = load_file(folder / "model.safetensors")
    prefixes = ("query_encoder.backbone.", "query_encoder.projector.", "query_encoder.temporal.")
    known = (*prefixes, "key_encoder.", "queue.", "momentum.")
    assert all(name.startswith(known) for name in model)
    assert model["queue.keys"].shape == (40, 16)
    assert int(model["queue.filled"]) == STEPS * 8
    assert int(model["queue.pointer"]) == STEPS * 8
    adam = load_file(folder / "optimizer.safetensors")
    assert adam.pop("adam_step").tolist() == [STEPS]
    for name, moment in adam.items():
        parameter, _, kind = name.rpartition(".")
        assert kind in {"exp_avg", "exp_avg_sq"}
        assert parameter.startswith("query_encoder.")
        assert moment.shape == model[parameter].shape
    prefix = prefixes[0]
    backbone = {name.removeprefix(prefix): value for name, value in model.items() if name.startswith(prefix)}
    exported = load_file(written.export)
    assert backbone.keys() == exported.keys()
    assert all(torch.equal(backbone[name], exported[name]) for name in backbone)


@pytest.mark.slow
def test_hub_folder(written: Written):
    assert sorted(path.name for path in written.hub.iterdir()) == [
        *("README.md", "config.json", "model.safetensors")
    ]
    config = json.loads((written.hub / "config.json").read_text())
    tensors, exported = load_file(written.hub / "model.safetensors"), load_file(written.export)
    assert config["format"] == "pal-hub/1"
    assert config["weights_sha256"] == digest_of(tensors) == digest_of(exported)
    header = metadata_of(written.hub / "model.safetensors")
    for name, own in (("hidden_size", "feature_dim"), ("num_frames", "clip_frames"), ("image_size", "size")):
        assert config[name] == int(header[own])
    training = config["training"]
    manifest = read_manifest(written.shards)
    digest = hashlib.sha256((written.shards / "manifest.json").read_bytes()).hexdigest()
    assert (training["steps"], training["objective"], training["dataset"]) == (STEPS, "pal", "set")
    assert training["manifest_sha256"] == digest
    assert {name: one["clips"] for name, one in training["splits"].items()} == {
        name: split["clips"] for name, split in manifest["splits"].items()
    }
    rows = [json.loads(line) for line in (written.run / "metrics.jsonl").read_text().splitlines()]
    first, last = [row for row in rows if "val_loss" in row]
    loss = training["figures"]["loss"]
    assert (loss["value"], loss["untrained"]) == (last["val_loss"], first["val_loss"])
    assert (loss["chance"], loss["error"]) == (last["val_chance_loss"], last["val_loss_error"])
    card = (written.hub / "README.md").read_text()
    assert f"`train` {manifest['splits']['train']['clips']} clips" in card
    assert (
        f"| `loss` | {last['val_loss']:.4g} ± {last['val_loss_error']:.2g} | {first['val_loss']:.4g} |"
        in card
    )


@pytest.mark.slow
def test_features(written: Written):
    header = metadata_of(written.export)
    assert header["format"] == "pal-backbone/1"
    settings = json.loads((written.features / "extract.json").read_text())
    sidecar = json.loads((written.features / "v_one.json").read_text())
    features_tc = read_npy(written.features / "v_one.npy")
    assert sidecar["format"] == settings["format"] == "pal-features/1"
    assert features_tc.shape == (sidecar["features"], sidecar["feature_dim"])
    assert sidecar["feature_dim"] == int(header["feature_dim"])
    assert sidecar["checkpoint"] == digest_of(load_file(written.export))
    whole = (sidecar["frames"] - sidecar["clip_frames"]) // sidecar["stride"] + 1
    assert sidecar["features"] == whole
    times = [
        (sidecar["offset"] + t * sidecar["stride"] + sidecar["clip_frames"] / 2) / sidecar["fps"]
        for t in range(len(features_tc))
    ]
    assert times[0] > 0
    assert times[-1] < sidecar["duration"]
    assert not (written.features / "errors.jsonl").exists()
