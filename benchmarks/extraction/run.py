"""Extraction against a bare loop of decode and forward, and its memory on a long video.

    python -m benchmarks.extraction.run --out benchmarks/extraction/ratio.json
    python -m benchmarks.extraction.run --short-count 1000 --short-seconds 0.4 --long-seconds 20 --rounds 3 \\
        --out benchmarks/extraction/ratio.json          # about three and a half minutes on two quiet cores

- bound: decode, resize and forward of the same clips in a bare loop: one thread of control, no files, no checks.
- ours: ``launch/extract.py``'s own function, files and sidecars included.

Both take the same videos, batches, weights, precision and threads, in turns, for I3D and a small video transformer,
on one long video and on many short ones, after both have met the first :data:`WARM_UP` of them.
``--hour`` extracts a video of one hour through the command and reports the peak memory of its process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.extraction.bare_loop import BareLoop
from benchmarks.extraction.footage import first_videos, make_hour, make_videos
from benchmarks.extraction.small_vit import CHOICE
from benchmarks.machine import machine
from pal_ds.config.backbones import BACKBONES
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.destination import claim_destinations
from pal_ds.transfer.extraction.extractor import extract_videos
from pal_ds.transfer.extraction.frozen_encoder import PRECISIONS, ClipEncoder
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.pipeline.throughput import summary
from pal_ds.transfer.extraction.video_source import list_videos

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {"i3d": "i3d", "vit": CHOICE.name}
GOAL = 0.9
#: Videos of a set that both sides work on before anything is counted.
WARM_UP = 16


def ours(
    folder: Path, encoder: ClipEncoder, out: Path, options: ExtractOptions
) -> tuple[int, dict[str, Any]]:
    """Extract a folder as the command does; returns the number of clips, and where the time went."""
    claim_destinations(str(out), options.settings(encoder))
    tally = extract_videos(list_videos(str(folder)), encoder, str(out), options)
    assert not tally.failures, tally.failures
    assert tally.figures is not None
    return tally.clips, summary([tally.figures])


def compare(network: str, videos: Path, arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure both sides in turns on one network and one set; ratios are those of neighbouring runs."""
    backbone, spec = load_backbone(f"random:{NETWORKS[network]}@{arguments.width}")
    encoder = ClipEncoder(
        backbone, spec, size=arguments.size, device=arguments.device, precision=arguments.precision
    )
    options = ExtractOptions(batch=arguments.batch, workers=arguments.workers, precision=arguments.precision)
    bare = BareLoop(encoder, backbone, batch=arguments.batch)
    rounds: list[dict[str, float]] = []
    shares: dict[str, Any] = {}
    warm = first_videos(videos, WARM_UP, scratch / f"warm-{network}-{videos.name}")
    bare.run(warm)
    ours(warm, encoder, scratch / f"{network}-{warm.name}", options)
    for number in range(arguments.rounds):
        begun = time.perf_counter()
        bound = bare.run(videos)
        between = time.perf_counter()
        own, shares = ours(videos, encoder, scratch / f"{network}-{videos.name}-{number}", options)
        ended = time.perf_counter()
        assert own == bound, (own, bound)
        rounds.append({"bound": bound / (between - begun), "ours": own / (ended - between)})
    return {
        "network": network,
        "set": videos.name,
        "videos": len(list(videos.iterdir())),
        "clips": own,
        "rounds": rounds,
        "bound_clips_per_second": quartiles([entry["bound"] for entry in rounds]),
        "ours_clips_per_second": quartiles([entry["ours"] for entry in rounds]),
        "ratio": quartiles([entry["ours"] / entry["bound"] for entry in rounds]),
        "shares_of_the_last_round": shares,
    }


def quartiles(values: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": round(float(middle), 3), "q1": round(float(low), 3), "q3": round(float(high), 3)}


def hour(scratch: Path) -> dict[str, Any]:
    """Extract an hour of video (90,000 frames) through the command; peak memory of its process."""
    make_hour(scratch / "hour", scratch)
    words = ["--checkpoint", "random:i3d@0.125", "--size", "56", "--stride", "40", "--json"]
    places = ["--videos", str(scratch / "hour"), "--out", str(scratch / "long")]
    begun = time.perf_counter()
    command = [sys.executable, "launch/extract.py", *words, *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {
        "clips": json.loads(done.stdout)["clips"],
        "seconds": round(time.perf_counter() - begun, 1),
        # The largest child so far; the encoder before it is far smaller.
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def ratios(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure every network on every set."""
    torch.set_num_threads(arguments.torch_threads or torch.get_num_threads())
    BACKBONES.add(CHOICE)
    if "long" in arguments.sets:
        make_videos(scratch / "long", 1, arguments.long_seconds, arguments.frame)
    if "short" in arguments.sets:
        make_videos(scratch / "short", arguments.short_count, arguments.short_seconds, arguments.frame)
    rows = []
    for network in arguments.networks:
        for name in arguments.sets:
            rows.append(compare(network, scratch / name, arguments, scratch))
            ratio = rows[-1]["ratio"]
            sys.stderr.write(f"{network} {name}: {ratio['median']} ({ratio['q1']} to {ratio['q3']})\n")
    names = (
        "frame",
        "width",
        "size",
        "batch",
        "workers",
        "precision",
        "device",
        "short_count",
        "short_seconds",
        "long_seconds",
    )
    return {
        "goal": GOAL,
        "reached": all(row["ratio"]["median"] >= GOAL for row in rows),
        "rows": rows,
        **{name: getattr(arguments, name) for name in names},
    }


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    add("--sets", nargs="+", choices=["long", "short"], default=["long", "short"])
    add("--long-seconds", type=float, default=120, help="of the long video")
    add("--short-count", type=int, default=100, help="short videos; 1000 for the goal's")
    add("--short-seconds", type=float, default=2, help="of each short video")
    add("--frame", default="320x240", help="of the videos, pixels")
    add("--width", type=float, default=0.25, help="of the networks; 1 is the published")
    add("--size", type=int, default=112)
    add("--batch", type=int, default=16)
    add("--workers", type=int, default=0, help="as the command's")
    add("--precision", choices=list(PRECISIONS), default="fp32")
    add("--device", default="cpu")
    add("--torch-threads", type=int, default=0, help="0: as torch chooses")
    add("--rounds", type=int, default=5, help="in turns")
    add("--hour", action="store_true", help="measure memory on one hour of video instead")
    add("--out", type=Path, help="JSON file")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        found = hour(Path(folder)) if arguments.hour else ratios(arguments, Path(folder))
    words = sys.argv[1:] if words is None else words
    found = {**found, "command": " ".join(["python -m benchmarks.extraction.run", *words]), **machine()}
    print(json.dumps(found, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
