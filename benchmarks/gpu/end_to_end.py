"""The whole way: from a server shaped like S3 to the step, decoding on the card, and what a checkpoint costs."""

from __future__ import annotations

import shutil
import statistics
import tarfile
import time
from pathlib import Path
from typing import Any

import torch
from torchcodec.decoders import VideoDecoder

from benchmarks.gpu.clips import set_of
from benchmarks.gpu.context import LETTER, ROOT, Context
from benchmarks.gpu.runs import last_rows, train
from benchmarks.streaming.shaped import ShapedServer
from pal_ds.config import load_config
from pal_ds.data.decode import decode_frames
from pal_ds.formats import shardset
from pal_ds.formats.shardset import SampleRecord
from pal_ds.training.pretrain import pretrain


def streaming(context: Context) -> dict[str, Any]:
    """Train the paper's network from a server with S3's waits and limits, as many workers as there are cores."""
    shards = set_of(context, "rendered")
    run = context.folder / "streaming"
    shutil.rmtree(run, ignore_errors=True)
    steps = context.pick(80, 4)
    sizes = (
        context.words()
        if context.tiny
        else ["data.global_batch=64", "precision=bf16", "log.every_steps=1", "log.tensorboard=false"]
    )
    words = [
        *sizes,
        f"run.dir={run}",
        "run.epochs=1000",
        f"run.max_steps={steps}",
        "validation.every_epochs=0",
    ]
    words += [
        "schedule.name=constant",
        "data.shards=s3://bench",
        "checkpoint.every_steps=100000",
    ]
    words += [] if context.tiny else ["data.workers=auto"]
    with ShapedServer(shards, first_byte_seconds=context.pick(0.03, 0.001)) as server:
        status, said = train(context, words, None, **server.env)
    if status != 0:
        raise RuntimeError(f"training ended with {status}: {said}")
    rows = last_rows(run)
    warm = rows[len(rows) // 3 :]
    return {
        "steps": len(rows),
        "videos/s": statistics.median(row["videos_per_second"] for row in warm),
        "data wait": statistics.mean(row["data_wait"] for row in warm),
        "decode ms a clip": rows[-1].get("loader_decode_ms"),
        "memory MB": rows[-1].get("memory_mb"),
        "losses": [rows[0]["loss"], rows[-1]["loss"]],
    }


def video_engine(context: Context) -> dict[str, Any]:
    """Decode the same clips on the CPU and by the card's engine: equal within some grey levels, and truly there?"""
    shards = set_of(context, "small")
    clips = _encoded(shards, context.pick(24, 2))
    found: dict[str, Any] = {"clips": len(clips)}
    began = time.perf_counter()
    frames = [decode_frames(video, record, range(0, record.frames, 4)) for video, record in clips]
    found["clips/s on one core"] = len(clips) / (time.perf_counter() - began)
    if not context.cuda:
        return found | {"engine": "not tried: no CUDA device"}
    decoder = VideoDecoder(clips[0][0], device="cuda:0")
    decoder[0]
    found["fell back to the CPU"] = str(getattr(decoder, "cpu_fallback", "this torchcodec does not say"))
    off = []
    began = time.perf_counter()
    for (video, record), expected in zip(clips, frames, strict=True):
        here = decode_frames(video, record, range(0, record.frames, 4), device="cuda:0")
        off.append(float((here.cpu().int() - expected.int()).abs().float().mean()))
    found["clips/s by the engine, one process"] = len(clips) / (time.perf_counter() - began)
    found["mean difference, grey levels"] = max(off)
    return found


def _encoded(shards: Path, count: int) -> list[tuple[bytes, SampleRecord]]:
    """Return the first clips of a set with their records."""
    found: list[tuple[bytes, SampleRecord]] = []
    for shard in shardset.load_manifest(str(shards)).splits["train"].shards:
        with tarfile.open(shards / shard.name) as tar:
            members = {member.name: member for member in tar.getmembers()}
            for name in sorted(name for name in members if name.endswith(".json")):
                video = next(other for other in members if other != name and other.startswith(name[:-4]))
                data, record = (_read(tar, members[each]) for each in (video, name))
                found.append((data, SampleRecord.from_json(record)))
    return found[:count]


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def checkpoint(context: Context) -> dict[str, Any]:
    """Train with checkpoints in the background and look at the steps that follow one."""
    shards = set_of(context, "small")
    run = context.folder / "checkpoint"
    shutil.rmtree(run, ignore_errors=True)
    every, saves = context.pick((20, 4), (3, 2))
    words = context.words(f"data.shards={shards}", f"run.dir={run}", f"run.max_steps={every * (saves + 1)}")
    words += ["run.epochs=1000", f"checkpoint.every_steps={every}", "data.workers=1"]
    if pretrain(load_config(ROOT / LETTER, words)) != 0:
        raise RuntimeError("training failed")
    rows = last_rows(run)
    taken = {row["step"]: 1.0 / row["videos_per_second"] for row in rows[every // 2 :]}
    after = [seconds for step, seconds in taken.items() if step % every == 1]
    others = [seconds for step, seconds in taken.items() if step % every > min(5, every - 1)]
    usual = statistics.median(others or taken.values())
    size = sum(path.stat().st_size for path in (run / "checkpoints").rglob("*") if path.is_file())
    return {
        "saves": saves,
        "kept on disk, MB": size / 1e6,
        "step after a save by a usual one": statistics.median(after) / usual if after else None,
        "memory, GiB": torch.cuda.max_memory_allocated() / 2**30 if context.cuda else None,
    }
