"""Where the profiles stand between bytes and decode time, on the frames that one PAL sample needs.

    python benchmarks/sharding/pareto.py FOOTAGE... --out benchmarks/sharding/pareto.json [--plot pareto.png]

FOOTAGE is a video, or the words ``easy`` and ``grainy`` for synthetic footage. The access pattern is the background
role plus one region: 8 uniformly placed clips of 8 frames, stride 1 to 4, in one call, one thread, torchcodec.
CPU milliseconds are the best of several interleaved passes; measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shards.origins import Origins
from shards.profiles import PROFILES, Profile
from shards.rows import Row
from shards.transcode import Clip, ClipLimits, Transcoder

SYNTHETIC = {
    "easy": "mandelbrot=s=480x270:r=30:end_scale=0.05,trim=duration=10",
    "grainy": "mandelbrot=s=480x270:r=30:end_scale=0.05,trim=duration=10,noise=alls=25:allf=t",
}
VARIANTS = [
    *(PROFILES[name] for name in ("fast", "compact")),
    Profile(name="x264 default", gop=250, preset="medium", tune=""),
    Profile(name="gop 8", gop=8),
    Profile(name="gop 32", gop=32),
    Profile(name="gop 64", gop=64),
    Profile(name="no fastdecode", tune=""),
    Profile(name="crf 26", crf=26),
    Profile(name="short side 112", short_side=112),
    Profile(name="short side 144", short_side=144),
    PROFILES["paper-256"],
]


def indices(frames: int, seed: int) -> list[int]:
    """Return the frames of 8 clips of 8, stride 1 to 4, spread over the video."""
    dice = random.Random(seed)
    found: set[int] = set()
    for place in range(8):
        stride = dice.randint(1, 4)
        start = min(max(0, frames - 7 * stride - 1), place * frames // 8)
        found.update(min(frames - 1, start + stride * step) for step in range(8))
    return sorted(found)


def encode(footage: str, profile: Profile, folder: Path) -> Clip:
    """Encode a source's first ten seconds as the sharder does."""
    source = folder / "source.mkv"
    if not source.exists():
        given = (
            ["-f", "lavfi", "-i", SYNTHETIC[footage]] if footage in SYNTHETIC else ["-t", "10", "-i", footage]
        )
        command = [
            "ffmpeg",
            "-v",
            "error",
            *given,
            "-an",
            "-c:v",
            "libx264",
            "-qp",
            "10",
            "-preset",
            "ultrafast",
        ]
        subprocess.run([*command, str(source)], check=True)
    target = folder / profile.name.replace(" ", "-")
    target.mkdir()
    row = Row(source="source.mkv", root=0, location="source.mkv", size=0)
    result = Transcoder(profile, ClipLimits(), Origins([str(folder)])).make_clips([row], target)[0]
    if not isinstance(result, Clip):
        raise SystemExit(f"{footage}, {profile.name}: {result}")
    return result


def measure(footage: str, passes: int) -> list[dict[str, object]]:
    """Encode one footage in every variant, then decode all of them in turns."""
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        clips = {profile.name: encode(footage, profile, Path(name)) for profile in VARIANTS}
        data = {name: clip.path.read_bytes() for name, clip in clips.items()}
    best: dict[str, float] = {}
    for number in range(passes):
        for name, clip in clips.items():
            wanted = indices(clip.record.frames, number % 4)
            started = time.process_time()
            VideoDecoder(data[name], num_ffmpeg_threads=1).get_frames_at(wanted)
            spent = 1000 * (time.process_time() - started)
            best[name] = min(spent, best.get(name, spent))
    rows = [
        {"variant": name, "bytes": clip.record.bytes, "decode_ms": round(best[name], 2)}
        for name, clip in clips.items()
    ]
    for row in rows:
        row["on_front"] = not any(_beats(other, row) for other in rows)
    return rows


def _beats(other: dict[str, object], row: dict[str, object]) -> bool:
    pairs = [(float(str(other[field])), float(str(row[field]))) for field in ("bytes", "decode_ms")]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def plot(results: dict[str, list[dict[str, object]]], path: str) -> None:
    """Draw one panel a footage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(6 * len(results), 5), squeeze=False)
    for axis, (footage, rows) in zip(axes[0], results.items(), strict=True):
        for row in rows:
            colour = "tab:blue" if row["on_front"] else "tab:grey"
            place = (float(str(row["bytes"])) / 1000, float(str(row["decode_ms"])))
            axis.scatter(*place, color=colour)
            axis.annotate(str(row["variant"]), place, xytext=(4, 4), textcoords="offset points", fontsize=8)
        axis.set(
            title=Path(footage).name, xlabel="kB a clip", ylabel="decode, CPU ms", xscale="log", yscale="log"
        )
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, then print or write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("footage", nargs="+")
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--out")
    parser.add_argument("--plot")
    arguments = parser.parse_args()
    results = {footage: measure(footage, arguments.passes) for footage in arguments.footage}
    document = {
        "what": "bytes of a clip against the decode time of 8 clips of 8 frames, best of interleaved passes",
        "machine": f"{os.cpu_count()}-core {platform.machine()}",
        "command": shlex.join(Path(word).name if word.startswith("/") else word for word in sys.argv),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "results": {Path(footage).name: rows for footage, rows in results.items()},
    }
    text = json.dumps(document, indent=1) + "\n"
    if arguments.out:
        Path(arguments.out).write_text(text)
    print(text)
    if arguments.plot:
        plot(results, arguments.plot)


if __name__ == "__main__":
    main()
