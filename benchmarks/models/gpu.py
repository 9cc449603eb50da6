"""PAL steps on one GPU: videos/s, MFU and memory, eager against compiled, channels-last against not, largest batch.

    python -m benchmarks.models.gpu --out benchmarks/models/gpu.json

A step is what the engine does on one rank: forward of both encoders under autocast, backward, fused Adam, momentum,
queue; input is noise on the device, so that nothing but the model is timed. MFU counts multiply-adds as two, by
torch's FLOP counter over one eager step (3 x the query's forward less the stem's input gradient, 1 x the key's), over
the card's dense peak given by --peak-tflops (989 for an H100 SXM in bf16).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import machine
from benchmarks.models.common import FOLDER, ROOT, noise_batch
from pal_ds.config import load_config
from pal_ds.models import build_objective

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def make_step(words: list[str], videos: int, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """Return one optimizer step of PAL on that many videos."""
    config = load_config(ROOT / "configs" / "pretrain" / "pal_i3d_k400.yaml", words)
    torch.manual_seed(0)
    objective = build_objective(config.objective, config.model, config.queue).to(device)
    trained = [value for value in objective.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, config.optimizer.lr, fused=device.type == "cuda")
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    batch = noise_batch(config, videos, device)

    def step() -> None:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            output = objective(batch)
        optimizer.zero_grad()
        scaler.scale(output.loss).backward()
        scaler.step(optimizer)
        scaler.update()
        objective.after_step(output.staged)

    return step


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(step: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Return the median time of a step after three to warm up."""
    taken = []
    for number in range(repeats + 3):
        synchronize(device)
        begun = time.perf_counter()
        step()
        synchronize(device)
        if number >= 3:
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def flops_of(words: list[str], device: torch.device, videos: int = 1) -> float:
    """Return the floating-point operations of one step on one video."""
    step = make_step(words, videos, device, torch.float32)
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops()) / videos


def largest_batch(words: list[str], device: torch.device, dtype: torch.dtype, start: int) -> int:
    """Return the largest number of videos that fits, by doubling and halving the gap (steps of 8)."""

    def fits(videos: int) -> bool:
        try:
            step = make_step(words, videos, device, dtype)
            step()
            step()
            synchronize(device)
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return True

    good, bad = 0, start
    while fits(bad):
        good, bad = bad, bad * 2
    while bad - good > 8:
        middle = (good + bad) // 16 * 8
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def main() -> int:
    """Measure every combination and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--precision", choices=sorted(DTYPES), default="bf16")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--peak-tflops", type=float, default=989.0)
    parser.add_argument("--set", nargs="*", default=[], metavar="section.key=value", help="further settings")
    parser.add_argument("--device", default="cuda", help="cpu only to try the script")
    parser.add_argument("--out", type=Path, default=FOLDER / "gpu.json")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    base = ["data.shards=none", "run.dir=none", *args.set]
    flops = flops_of(base, device)
    rows: list[dict[str, Any]] = []
    for videos, compiled, last in itertools.product(args.videos, (False, True), (True, False)):
        words = [*base, f"model.compile={str(compiled).lower()}", f"model.channels_last={str(last).lower()}"]
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step = make_step(words, videos, device, DTYPES[args.precision])
        seconds = seconds_of(step, device, args.repeats)
        row = {
            "videos": videos,
            "compiled": compiled,
            "channels_last": last,
            "step_seconds": seconds,
            "videos_per_second": videos / seconds,
            "mfu": videos * flops / seconds / (args.peak_tflops * 1e12),
        }
        if device.type == "cuda":
            row["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        rows.append(row)
        print(json.dumps(row), flush=True)
        del step
    document: dict[str, Any] = {
        "machine": machine(),
        "precision": args.precision,
        "peak_tflops": args.peak_tflops,
        "tflop_per_video_and_step": flops / 1e12,
        "rows": rows,
    }
    if device.type == "cuda":
        document["largest_batch"] = largest_batch(base, device, DTYPES[args.precision], max(args.videos))
    args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
