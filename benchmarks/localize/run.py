"""``pal-localize`` on one long video against its limit, and its memory.

    python -m benchmarks.localize.run --minutes 60 --rounds 3 --out benchmarks/localize/results.json

- bound: decode, resize and forward of the same clips in a bare loop: nothing overlapped, no files.
- ours: the command, from its first look at the video to the last page: features, head, NMS, thumbnails, files.

Each side is a process of its own, in turns, with the same video, weights, batches and threads. The ratio leaves out
the start of Python and the loading of the model, which both sides have; ``whole_seconds`` has everything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.extraction.bare_loop import BareLoop
from benchmarks.extraction.footage import make_videos
from benchmarks.machine import machine
from pal_ds.config.transfer import PostConfig
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.heads.gtad import GtadConfig
from pal_ds.transfer.localize.model_folder import ModelSpec, load_model, write_model
from pal_ds.transfer.tasks.class_scores import SegmentClassifier
from pal_ds.transfer.tasks.predictor import Reading

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 20
BATCH = 16


def make_long_video(folder: Path, minutes: int) -> Path:
    """Encode a minute of 320x240 H.264 at 25 frames a second, and repeat it without encoding."""
    make_videos(folder / "minute", 1, 60, "320x240")
    path = folder / "long/long.mp4"
    path.parent.mkdir()
    loop = ["-stream_loop", str(minutes - 1), "-i", str(folder / "minute/v_00000.mp4"), "-c", "copy"]
    subprocess.run(["ffmpeg", "-v", "error", *loop, "-movflags", "+faststart", str(path)], check=True)
    return path


def make_model(folder: Path, encoder: str) -> Path:
    """Write a model with random weights: an encoder, G-TAD for windows of THUMOS'14, a classifier of segments."""
    backbone, spec = load_backbone(encoder)
    draw = np.random.default_rng(0)
    torch.manual_seed(0)
    head = GtadConfig(snippets=256, durations=64, context_bins=16, inner_bins=16)
    post = PostConfig(boundary="none", keep=200)
    size, width = spec.size, spec.feature_dim
    sampling = {
        "clip_frames": spec.clip_frames,
        "stride": spec.clip_frames,
        "fps": "native",
        "size": size,
        "short_side": round(size * 8 / 7),
        "crop": "centre",
    }
    names = tuple(f"action {number}" for number in range(CLASSES))
    classifier = SegmentClassifier(
        names,
        draw.normal(size=(CLASSES, width)).astype(np.float32),
        draw.normal(size=CLASSES).astype(np.float32),
        np.zeros(width, dtype=np.float32),
        np.ones(width, dtype=np.float32),
    )
    made = ModelSpec(
        task="tad",
        reading=Reading(head=head, post=post, shape="windows", every=1, batch=BATCH),
        sampling=sampling,
        feature_dim=width,
        classes=names,
        classifier=True,
        threshold=0.0,
        trained={},
        versions={},
    )
    path = folder / "model"
    write_model(str(path), made, (backbone, spec), head.network(width).state_dict(), classifier)
    return path


def bound(model: Path, folder: Path) -> dict[str, float]:
    """Decode and encode every clip of a folder's videos, one thing after the other."""
    loaded = load_model(str(model))
    encoder = ClipEncoder(loaded.backbone, loaded.backbone_spec)
    begun = time.perf_counter()
    clips = BareLoop(encoder, loaded.backbone, batch=BATCH).run(folder)
    return {"clips": clips, "seconds": time.perf_counter() - begun}


def high_water(pid: int) -> int:
    """Return the most memory that a process has had so far, in MiB; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def child(words: list[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """Run a command; return the object that it prints, and its seconds, CPU seconds and peak memory in MiB."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    peak = 0
    # The kernel's own figure at the end counts what this process had when it forked.
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        peak = max(peak, high_water(process.pid))
        time.sleep(0.1)
    _, status, usage = ended
    printed = process.stdout.read()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words[:3])} ended with status {process.returncode}")
    found: dict[str, Any] = json.loads(printed)
    return found, {
        "whole_seconds": round(time.perf_counter() - begun, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": peak,
    }


def compare(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure both sides in turns; the ratio is the median of the rounds' ratios."""
    video = make_long_video(scratch, arguments.minutes)
    model = make_model(scratch, arguments.encoder)
    rounds = []
    for number in range(arguments.rounds):
        least, bound_used = child(
            ["-m", "benchmarks.localize.run", "--bound", str(model), "--videos", str(video.parent)]
        )
        out = scratch / f"out{number}"
        words = ["-m", "pal_ds.cli.localize", str(video), "--model", str(model), "--out", str(out), "--json"]
        ours, used = child([*words, "--batch", str(BATCH), "--device", "cpu"])
        assert ours["clips"] == least["clips"], (ours, least)
        rounds.append(
            {
                "bound_seconds": round(least["seconds"], 2),
                "ours_seconds": ours["seconds"],
                "ratio": round(ours["seconds"] / least["seconds"], 3),
                "bound_cpu_seconds": bound_used["cpu_seconds"],
                "bound_peak_mib": bound_used["peak_mib"],
                **used,
            }
        )
    return {
        "minutes": arguments.minutes,
        "encoder": arguments.encoder,
        "clips": ours["clips"],
        "rounds": rounds,
        "ratio": statistics.median(entry["ratio"] for entry in rounds),
        "peak_mib": max(entry["peak_mib"] for entry in rounds),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=5, help="of video (default: 5)")
    parser.add_argument("--encoder", default="random:i3d@0.25", help="default: I3D of a quarter of its width")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--bound", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--videos", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bound:
        print(json.dumps(bound(arguments.bound, arguments.videos)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {**compare(arguments, Path(folder)), "machine": machine()}
    print(json.dumps(found, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
