"""Real encoded videos and a real (random) checkpoint for the extraction tests."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import safetensors.torch
import torch

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
from pal_ds.models import build_backbone

MODEL = {"backbone": "i3d", "width": 0.0625}
CONFIG = {
    "model": MODEL,
    "synthesis": {"clip_frames": 8, "size": 32},
    "augment": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def make_video(
    path: Path, *, seconds: float = 2.0, fps: int = 25, size: str = "64x48", source: str = "testsrc2"
) -> Path:
    """Encode a moving test picture with x264 (GOP 12, B-frames), every frame different."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg("-f", "lavfi", "-i", f"{source}=size={size}:rate={fps}", "-t", str(seconds), "-c:v", "libx264", "-g", "12",
           "-pix_fmt", "yuv420p", str(path))  # fmt: skip
    return path


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], check=True)


def write_checkpoint(run: Path, *, step: int = 10, seed: int = 0, committed: bool = True) -> Path:
    """Write a checkpoint as training does: prefixed tensors, config in state.json, COMMITTED last."""
    torch.manual_seed(seed)
    backbone = build_backbone(str(MODEL["backbone"]), width=float(MODEL["width"]))
    tensors = {f"query_encoder.backbone.{k}": v.contiguous() for k, v in backbone.state_dict().items()}
    tensors |= {f"key_encoder.backbone.{k}": v + 1 for k, v in backbone.state_dict().items()}
    tensors["queue.keys"] = torch.randn(4, 8)
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(tensors))
    (folder / "state.json").write_text(json.dumps({"step": step, "config": CONFIG}))
    if committed:
        (folder / "COMMITTED").write_text("")
    return folder


def write_shard_set(folder: Path, videos: list[Path]) -> None:
    """Pack videos into one shard of a complete shard set."""
    folder.mkdir(parents=True, exist_ok=True)
    name = shard_name("val", 0)
    samples = []
    with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
        for video in videos:
            data = video.read_bytes()
            record = SampleRecord(
                key=video.stem, source=video.name, start=0.0, end=1.0, duration=1.0, fps=25.0, frames=25, width=64,
                height=48, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
            )  # fmt: skip
            first = tar.offset
            for member, content in ((f"{video.stem}.mp4", data), (f"{video.stem}.json", record.to_json())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            samples.append(
                SampleEntry(key=video.stem, offset=first, size=tar.offset - first, frames=25, fps=25.0)
            )
    data = (folder / name).read_bytes()
    entry = ShardEntry(name=name, clips=len(videos), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    split = SplitEntry(clips=len(videos), frames=25, seconds=1.0, bytes=len(data), shards=(entry,))
    (folder / index_name(name)).write_bytes(ShardIndex(shard=name, samples=tuple(samples)).to_json())
    (folder / "manifest.json").write_bytes(Manifest(recipe={}, splits={"val": split}).to_json())
