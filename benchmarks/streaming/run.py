"""Streaming against its limit and against the pipeline a user would write, in turns over the same clips.

    python -m benchmarks.streaming.run --seconds 20 --rounds 3 --workers 2 --out benchmarks/streaming/results.json

- bound: only decoding: videos in memory, one ``get_frames_at`` of exactly the frames a PAL sample needs (its own two
  regions and its eight background clips), in as many processes.
- ours: ``GroupLoader`` from the URL to micro-batches on the host, an idle consumer.
- peer: ``peer.py``, float32 views out of a DataLoader, the same idle consumer.

``ours`` leaves resizing, colour and blur to the device, as in training; ``ours, rendered`` also runs ``render`` on
the CPU in the consumer, so that both sides deliver the same float32 views. CPU seconds are those of all processes
of a side: where other work shares the machine they say more than the wall clock.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.streaming.peer import PairDataset
from pal_ds import shardset, storage
from pal_ds.config.data import AugmentConfig, DataConfig, SynthesisConfig
from pal_ds.data.augment import render
from pal_ds.data.decode import decode_frames
from pal_ds.data.loader import GroupLoader
from pal_ds.data.sampling import draw_clip

SOURCE = "testsrc2=s=340x256:r=30:d=10,hue=h={hue},noise=alls=12:allf=t"
SYNTHESIS, AUGMENT = SynthesisConfig(), AugmentConfig()


def make_set(folder: Path, count: int, profile: str) -> str:
    """Encode a few 10 s clips, link them under more names, and shard them."""
    videos = folder / "videos"
    if not videos.exists():
        videos.mkdir(parents=True)
        for number in range(count):
            path = videos / f"clip{number:04d}.mp4"
            if number >= 8:
                os.link(videos / f"clip{number % 8:04d}.mp4", path)
                continue
            command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", SOURCE.format(hue=number * 40)]
            subprocess.run(
                [*command, "-c:v", "libx264", "-preset", "veryfast", "-crf", "26", str(path)], check=True
            )
    url = folder / profile
    arguments = ["build", str(videos), str(url), "--profile", profile, "--shard-bytes", "4MiB", "--quiet"]
    subprocess.run([sys.executable, "-m", "shards.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
    return str(url)


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time of this process and of others that still run."""
    ticks = 0
    for pid in [os.getpid(), *pids]:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def children() -> list[int]:
    """Return all living descendants of this process."""
    found, pending = [], [os.getpid()]
    while pending:
        for task in Path(f"/proc/{pending.pop()}/task").iterdir():
            for child in (task / "children").read_text().split():
                found.append(int(child))
                pending.append(int(child))
    return found


def measured(step: Callable[[], int], seconds: float, warm_up: int = 2) -> dict[str, float]:
    """Run ``step`` (returns samples) for some seconds after a warm-up."""
    for _ in range(warm_up):
        step()
    pids = children()
    cpu, begun, samples = cpu_seconds(pids), time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        samples += step()
    wall = time.monotonic() - begun
    used = cpu_seconds(pids) - cpu
    return {"samples": samples, "per_second": samples / wall, "cpu_ms_per_sample": 1000 * used / samples}


def _decode_for_ever(url: str, counter: Any) -> None:
    torch.set_num_threads(1)
    samples = []
    for shard in shardset.load_manifest(url).splits["train"].shards:
        samples += shardset.split_samples(storage.read_bytes(storage.join(url, shard.name)))
    for epoch in range(10**9):
        for sample in samples:
            record = sample.record
            drawn = draw_clip(
                0,
                epoch,
                sample.key,
                frames=record.frames,
                height=record.height,
                width=record.width,
                synthesis=SYNTHESIS,
                augment=AUGMENT,
            )
            frames = [*drawn.regions[0].frames, *drawn.regions[1].frames, *drawn.background]
            decode_frames(sample.video, record, [int(frame) for frame in frames])
            with counter.get_lock():
                counter.value += 1


def bound(url: str, workers: int, seconds: float) -> dict[str, float]:
    """Measure decoding alone."""
    context = multiprocessing.get_context("fork")
    counter = context.Value("l", 0)
    processes = [
        context.Process(target=_decode_for_ever, args=(url, counter), daemon=True) for _ in range(workers)
    ]
    for process in processes:
        process.start()
    last = 0

    def step() -> int:
        nonlocal last
        time.sleep(0.2)
        now = counter.value
        done, last = now - last, now
        return int(done)

    while counter.value < 16 * workers:
        time.sleep(0.1)
    step()
    found = measured(step, seconds)
    for process in processes:
        process.kill()
        process.join()
    return found


def ours(url: str, workers: int, seconds: float, *, rendered: bool) -> dict[str, float]:
    """Measure the loader, optionally with rendering on the CPU."""
    data = DataConfig(shards=url, workers=workers, global_batch=8, group_size=8)
    loader = GroupLoader(url, data=data, synthesis=SYNTHESIS, augment=AUGMENT, seed=0, rank=0, world_size=1)

    def step() -> int:
        micro = next(loader)
        if rendered:
            render(micro, SYNTHESIS, AUGMENT)
        return len(micro)

    found = measured(step, seconds, warm_up=3 * workers)
    loader.close()
    return found


def peer(url: str, workers: int, seconds: float) -> dict[str, float]:
    """Measure the pipeline a user would write."""
    batches = iter(torch.utils.data.DataLoader(PairDataset(url), batch_size=8, num_workers=workers))
    found = measured(lambda: len(next(batches)[0]), seconds)
    return found


def main() -> None:
    """Run the sides in turns and write the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", help="a shard set with a train split; made here if not given")
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        url = options.shards or make_set(Path(scratch), options.clips, options.profile)
        sides: dict[str, Callable[[], dict[str, float]]] = {
            "bound": lambda: bound(url, options.workers, options.seconds),
            "ours": lambda: ours(url, options.workers, options.seconds, rendered=False),
            "ours, rendered": lambda: ours(url, options.workers, options.seconds, rendered=True),
            "peer": lambda: peer(url, options.workers, options.seconds),
        }
        rounds = [{name: side() for name, side in sides.items()} for _ in range(options.rounds)]
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
        "workers": options.workers,
        "load_average": os.getloadavg(),
    }
    for name in sides:
        result[name] = {
            field: round(statistics.median(each[name][field] for each in rounds), 2)
            for field in ("per_second", "cpu_ms_per_sample")
        }
    for field, better in (("per_second", 1), ("cpu_ms_per_sample", -1)):
        result[f"share of the bound ({field})"] = round(
            (result["ours"][field] / result["bound"][field]) ** better, 3
        )
        result[f"times the peer, both rendered ({field})"] = round(
            (result["ours, rendered"][field] / result["peer"][field]) ** better, 2
        )
        result[f"times the peer, rendering on the device ({field})"] = round(
            (result["ours"][field] / result["peer"][field]) ** better, 2
        )
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
