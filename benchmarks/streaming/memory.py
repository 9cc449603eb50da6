"""Resident memory of every worker over many clips: flat, but for a leak in the decoder library that renewal ends.

    python -m benchmarks.streaming.memory --clips 20000 --out benchmarks/streaming/memory.json --plot memory.png

Tiny clips from a real S3 server on loopback, so that 20,000 a worker take minutes. Resident memory is that of the
process alone (anonymous pages and files mapped), the slots it shares with the training process counted apart. Single
looks swing with what is under way and with where the last trim of the heap was, so that medians over some thousand
clips are compared: most over first window after the warm-up. Single looks are in the JSON and in the picture.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.streaming import sets
from benchmarks.streaming.run import measured_on, use_environment
from launch.demo.s3_server import S3Server
from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.loader import GroupLoader


def tiny_set(folder: Path, clips: int) -> str:
    """Make a set of tiny clips of different lengths."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    for number in range(8):
        source = f"testsrc2=s=64x48:r=30:d={2 + number / 2},hue=h={number * 40}"
        path = videos / f"clip{number}.mp4"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", str(path)]
        subprocess.run(command, check=True)
    sets.linked(videos, clips)
    return str(sets.sharded(videos, folder / "set", "--short-side", "48"))


def resident(pid: int) -> dict[str, float]:
    """Return a process's own and shared resident memory in MB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sizes = {name: int(lines[name].split()[0]) / 1e3 for name in ("RssAnon", "RssFile", "RssShmem")}
    return {
        "own_mb": round(sizes["RssAnon"] + sizes["RssFile"], 2),
        "anonymous_mb": round(sizes["RssAnon"], 2),
        "slots_mb": round(sizes["RssShmem"], 2),
    }


def main() -> None:
    """Stream clips and write down every worker's memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=20_000, help="clips of every worker")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker-clips", type=int, default=DataConfig().worker_clips)
    parser.add_argument("--warm-up", type=float, default=0.1, help="share of the clips that is not judged")
    parser.add_argument("--window", type=int, default=2000, help="clips that a median is taken over")
    parser.add_argument("--samples", type=int, default=60, help="times that memory is looked at")
    parser.add_argument("--out", type=Path, help="where the JSON goes, beside stdout")
    parser.add_argument("--plot", type=Path, help="a PNG of memory over clips")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with (
        tempfile.TemporaryDirectory() as scratch,
        S3Server(Path(tempfile.mkdtemp(dir=scratch))) as server,
    ):
        use_environment(server.env)
        url = sets.uploaded(Path(tiny_set(Path(scratch), 400)), server.bucket("memory"))
        data = DataConfig(
            shards=url,
            workers=options.workers,
            global_batch=8,
            group_size=8,
            worker_clips=options.worker_clips,
            slice_bytes=100_000,
        )
        loader = GroupLoader(
            url,
            data=data,
            synthesis=SynthesisConfig(size=32),
            augment=AugmentConfig(),
            seed=0,
            rank=0,
            world_size=1,
        )
        rows, begun = [], time.monotonic()
        total = options.clips * options.workers
        done, next_look = 0, 0
        while done < total:
            done += len(next(loader))
            if done >= next_look:
                rows += looked_at(done // options.workers)
                next_look += total // options.samples
        seconds = time.monotonic() - begun
        loader.close()
    judged = [row for row in rows if row["clips"] >= options.warm_up * options.clips]
    result = {
        **measured_on(),
        "command": " ".join(["python", *sys.argv]),
        "clips_per_worker": options.clips,
        "worker_clips": options.worker_clips,
        "seconds": round(seconds, 1),
        "workers": {
            name: summary([row for row in judged if row["worker"] == name], options.window)
            for name in sorted({row["worker"] for row in judged})
        },
        "rows": rows,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot)


def looked_at(clips: int) -> list[dict[str, Any]]:
    """Return a row for every worker that lives."""
    rows = []
    for process in multiprocessing.active_children():
        if process.name.startswith("pal-worker") and process.pid is not None:
            try:
                found = resident(process.pid)
            except (FileNotFoundError, KeyError):  # it has just been replaced
                continue
            rows.append({"clips": clips, "worker": process.name, "pid": process.pid, **found})
    return rows


def summary(rows: list[dict[str, Any]], window: int) -> dict[str, Any]:
    """Say how far one worker's memory went from where it was after the warm-up, by medians of windows of clips."""
    first = rows[0]["clips"]
    windows: dict[int, list[float]] = collections.defaultdict(list)
    for row in rows:
        windows[(row["clips"] - first) // window].append(row["own_mb"])
    medians = [round(statistics.median(found), 1) for _, found in sorted(windows.items())]
    own = [row["own_mb"] for row in rows]
    return {
        "window_medians_mb": medians,
        "most_over_first": round(max(medians) / medians[0] - 1, 4),
        "least_look_mb": min(own),
        "most_look_mb": max(own),
        "processes": len({row["pid"] for row in rows}),
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw every worker's own memory over the clips it has built."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4))
    axes = figure.add_subplot()
    for name in sorted({row["worker"] for row in rows}):
        mine = [row for row in rows if row["worker"] == name]
        axes.plot([row["clips"] for row in mine], [row["own_mb"] for row in mine], marker=".", label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("clips of a worker")
    axes.set_ylabel("resident memory, MB (slots left out)")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
