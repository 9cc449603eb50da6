"""Extraction against its limit, and its memory on a long video.

    python -m benchmarks.extraction.run --rounds 3 --out benchmarks/extraction/results.json

- bound: decode, resize and forward of the same clips in a bare loop: one thread of control, no files, no checks.
- ours: ``launch/extract.py``'s own function, files and sidecars included.

Both take the same videos, batches, weights and threads, in turns. ``--hour`` extracts a video of one hour through the
command and reports the peak memory of its process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torchcodec.decoders import VideoDecoder

from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.destination import claim_destinations
from pal_ds.transfer.extraction.extractor import extract_videos
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.video_source import list_videos

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 128


def make_videos(folder: Path, count: int, seconds: int, size: str) -> None:
    """Encode moving test pictures with noise, as H.264 with its usual settings."""
    folder.mkdir(parents=True)
    for number in range(count):
        source = f"testsrc2=s={size}:r=25:d={seconds},hue=h={number * 40},noise=alls=12:allf=t"
        words = [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            source,
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
        ]
        subprocess.run([*words, str(folder / f"v_{number:02d}.mp4")], check=True)


def bare_loop(folder: Path, encoder: ClipEncoder, backbone: torch.nn.Module, *, batch: int) -> int:
    """Decode, resize, crop and encode every clip of every video; returns the number of clips."""
    frames_a_clip, size, short = encoder.spec.clip_frames, encoder.size, encoder.short_side
    mean = torch.tensor(encoder.spec.mean).view(3, 1, 1, 1)
    std = torch.tensor(encoder.spec.std).view(3, 1, 1, 1)
    clips = 0
    for path in sorted(folder.glob("*.mp4")):
        decoder = VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1)
        whole = len(decoder) // frames_a_clip * frames_a_clip
        waiting: list[torch.Tensor] = []
        for begin in range(0, whole, CHUNK):
            frames = decoder.get_frames_in_range(begin, min(begin + CHUNK, whole)).data
            height, width = frames.shape[2:]
            scale = short / min(height, width)
            target = [max(size, round(side * scale)) for side in (height, width)]
            frames = F.interpolate(frames, size=target, mode="bilinear", antialias=True)
            top, left = (target[0] - size) // 2, (target[1] - size) // 2
            frames = frames[:, :, top : top + size, left : left + size]
            waiting += frames.reshape(-1, frames_a_clip, *frames.shape[1:]).unbind()
            while len(waiting) >= batch or (waiting and begin + CHUNK >= whole):
                some, waiting = waiting[:batch], waiting[batch:]
                with torch.inference_mode():
                    scaled = torch.stack(some).transpose(1, 2).float().div_(255).sub_(mean).div_(std)
                    clips += len(backbone(scaled))
    return clips


def ours(folder: Path, encoder: ClipEncoder, out: Path, *, batch: int) -> int:
    """Extract the same videos as the command does; returns the number of clips."""
    options = ExtractOptions(batch=batch)
    claim_destinations(str(out), options.settings(encoder))
    tally = extract_videos(list_videos(str(folder)), encoder, str(out), options)
    assert not tally.failures, tally.failures
    return tally.clips


def compare(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure both sides in turns; the ratio is the median of the rounds' ratios."""
    make_videos(scratch / "videos", arguments.videos, arguments.seconds, arguments.frame)
    backbone, spec = load_backbone(f"random:i3d@{arguments.width}")
    encoder = ClipEncoder(backbone, spec, size=arguments.size)
    rounds = []
    for number in range(arguments.rounds + 1):
        begun = time.perf_counter()
        bound = bare_loop(scratch / "videos", encoder, backbone, batch=arguments.batch)
        between = time.perf_counter()
        own = ours(scratch / "videos", encoder, scratch / f"out{number}", batch=arguments.batch)
        ended = time.perf_counter()
        assert own == bound, (own, bound)
        if number:  # the first warms caches
            rounds.append({"bound": bound / (between - begun), "ours": own / (ended - between)})
    return {
        "videos": arguments.videos,
        "frame": arguments.frame,
        "clips": own,
        "width": arguments.width,
        "size": arguments.size,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "bound_clips_per_second": statistics.median(entry["bound"] for entry in rounds),
        "ours_clips_per_second": statistics.median(entry["ours"] for entry in rounds),
        "ratio": statistics.median(entry["ours"] / entry["bound"] for entry in rounds),
    }


def hour(scratch: Path) -> dict[str, Any]:
    """Extract an hour of video (90,000 frames) through the command; peak memory of its process."""
    make_videos(scratch / "minute", 1, 60, "320x240")
    (scratch / "hour").mkdir()
    loop = ["-stream_loop", "59", "-i", str(scratch / "minute/v_00.mp4"), "-c", "copy"]
    subprocess.run(["ffmpeg", "-v", "error", *loop, str(scratch / "hour/v_hour.mp4")], check=True)
    words = ["--checkpoint", "random:i3d@0.125", "--size", "56", "--stride", "40", "--json"]
    begun = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "launch/extract.py",
            *words,
            "--videos",
            str(scratch / "hour"),
            "--out",
            str(scratch / "long"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "clips": json.loads(done.stdout)["clips"],
        "seconds": round(time.perf_counter() - begun, 1),
        # The largest child so far; the encoder before it is far smaller.
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=30, help="of each video")
    parser.add_argument("--frame", default="320x240", help="of the videos, pixels")
    parser.add_argument("--width", type=float, default=0.25, help="of the I3D; 1 is the paper's")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hour", action="store_true", help="measure memory on one hour of video instead")
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = hour(Path(folder)) if arguments.hour else compare(arguments, Path(folder))
    found = {
        **found,
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(found, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
