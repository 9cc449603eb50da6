"""What a step and a run cost, by arithmetic: time, decoding cores, requests, money. Nothing here is measured.

    python -m pal_ds.planning.cost --gpu h100 --gpus 1 2 4 8 16 32 64 --price 3.0

The arithmetic and its assumptions are in ``step_estimate.py``; docs/scaling.md shows the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence

from pal_ds.config import Config
from pal_ds.config.backbones import BACKBONES
from pal_ds.config.objectives import OBJECTIVES
from pal_ds.planning.hardware import GPUS, Gpu
from pal_ds.planning.network_work import count_encoder_work, count_work
from pal_ds.planning.step_estimate import Estimate, Job, estimate, scaling_ends, step_tflop


def job_of(
    config: Config, *, videos: int, clip_bytes: int, gpu: Gpu, gpus: int, price: float, steps: int = 0
) -> Job:
    """Describe a configured run; work grows with pixels, frames and the square of the width.

    Args:
        config: the run.
        videos: clips of its training split.
        clip_bytes: mean bytes of a clip in its tar.
        gpu: accelerator.
        gpus: how many.
        price: money per GPU and hour.
        steps: optimizer steps of the whole run, where ``run.max_steps`` may end it early.
    """
    synthesis, data = config.synthesis, config.data
    if config.model.encoder:
        network, scale = count_encoder_work(config.model, synthesis.clip_frames, synthesis.size), 1.0
    else:
        pixels = (synthesis.size / 112) ** 2 * synthesis.clip_frames / 8
        network, scale = count_work(config.model.backbone), pixels * config.model.width**2
    return Job(
        gpu=gpu,
        gpus=gpus,
        price=price,
        videos=videos,
        epochs=config.run.epochs,
        steps=steps,
        global_batch=data.global_batch,
        accumulation=data.accumulation,
        clips=synthesis.view_clips,
        network=network,
        scale=scale,
        passes=_passes(config),
        queue_dim=config.model.embedding_dim * OBJECTIVES[config.objective.name].key_parts,
        clip_kb=clip_bytes / 1e3,
        slice_mb=data.slice_bytes / 1e6,
        cores_per_gpu=max(1, data.processes),
    )


def _passes(config: Config) -> float:
    """Return a step's work in units of one query (forward, and backward at twice that) with one key (forward)."""
    keys = config.synthesis.views - 1
    queries = 2 if config.model.symmetric else 1
    return OBJECTIVES[config.objective.name].encodings * (3 * queries + keys + queries - 1) / 4


def describe_cost(job: Job) -> dict[str, str]:
    """Return a job's estimate by name, as a dry run prints it; every figure says what it rests on."""
    found = estimate(job)
    at = f"{job.gpus} x {job.gpu.name} at {job.mfu:.0%} MFU (assumed)"
    return {
        "step time, estimated": f"{found.step_seconds * 1e3:.0f} ms on {at}; {found.limit} is the limit",
        "videos per second, estimated": f"{found.videos_per_second:,.0f}",
        "decoding cores wanted per GPU": f"{math.ceil(found.cores_needed)}, if one decodes "
        f"{job.decode_per_core:.0f} videos/s",
        "read from the store, estimated": f"{found.read_mbs:,.0f} MB/s, {found.requests_per_second:.0f} requests/s",
        "run time, estimated": f"{found.hours:.1f} hours",
        "price, estimated": f"{found.gpu_price:,.2f} at {job.price:.2f} a GPU-hour, "
        f"{found.request_price:.2f} for reads",
    }


_COLUMNS: tuple[tuple[str, str], ...] = (
    ("GPUs", "{0.gpus}"),
    ("compute ms", "{compute:.1f} ({0.compute_limit})"),
    ("rendering ms", "{render:.1f}"),
    ("SyncBN ms", "{syncbn:.1f}"),
    ("gradients ms", "{gradient:.1f}"),
    ("decoding ms", "{decode:.1f}"),
    ("step ms", "{step:.1f}"),
    ("videos/s", "{0.videos_per_second:,.0f}"),
    ("efficiency", "{efficiency:.0f} %"),
    ("cores/GPU wanted", "{cores:.0f}"),
    ("store MB/s", "{0.read_mbs:,.0f}"),
    ("reads/s", "{0.requests_per_second:.0f}"),
    ("hours", "{0.hours:.1f}"),
    ("GPU price", "{0.gpu_price:,.0f}"),
)


def markdown(estimates: Sequence[Estimate]) -> str:
    """Return the estimates as a table."""
    lines = [
        "| " + " | ".join(name for name, _ in _COLUMNS) + " |",
        "|" + "---:|" * len(_COLUMNS),
    ]
    for found in estimates:
        values = {
            "compute": found.compute_seconds * 1e3,
            "render": found.render_seconds * 1e3,
            "syncbn": found.syncbn_seconds * 1e3,
            "gradient": found.gradient_seconds * 1e3,
            "decode": found.decode_seconds * 1e3,
            "step": found.step_seconds * 1e3,
            "efficiency": found.efficiency * 100,
            "cores": math.ceil(found.cores_needed),
        }
        lines.append("| " + " | ".join(text.format(found, **values) for _, text in _COLUMNS) + " |")
    return "\n".join(lines) + "\n"


#: Numbers of :data:`_NUMBERS` that a run may have none of.
_MAY_BE_ZERO = ("waits",)
_NUMBERS = {
    "price": "money per GPU and hour",
    "videos": "clips of the training split",
    "epochs": "passes over them",
    "global_batch": "videos per optimizer step",
    "accumulation": "micro-steps per optimizer step",
    "mfu": "share of the GPU's peak that is reached (assumed)",
    "render_mb": "memory traffic of rendering a video, MB (assumed)",
    "source_mb": "bytes of a video copied to the device, MB",
    "host_gbs": "copies to a device, GB/s",
    "waits": "times a micro-step that the host waits for the device",
    "gpus_per_node": "GPUs behind one NVLink domain",
    "collective_us": "latency of a small collective in a node, µs; twice that across nodes",
    "nvlink_gbs": "all-reduce bandwidth in a node, GB/s",
    "network_gbs": "all-reduce bandwidth across nodes, GB/s",
    "clip_kb": "encoded bytes of a clip, kB",
    "decode_per_core": "videos a core decodes per second",
    "cores_per_gpu": "decoding cores a GPU",
}


def main(words: list[str] | None = None) -> int:
    """Print the table for given numbers."""
    defaults = Job()
    parser = argparse.ArgumentParser(
        prog="python -m pal_ds.planning.cost",
        description="Time and price of a pre-training run by arithmetic; nothing is measured.",
    )
    parser.add_argument("--gpu", choices=GPUS, default="h100", help="accelerator (default %(default)s)")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8], metavar="N", help="numbers of GPUs")
    parser.add_argument(
        "--backbone", choices=BACKBONES, help="clip encoder (default: I3D as the paper counts it)"
    )
    parser.add_argument("--symmetric", action="store_true", help="contrast both ways round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, text in _NUMBERS.items():
        default = getattr(defaults, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{text} (%(default)s)"
        )
    args = parser.parse_args(words)
    numbers = {name: getattr(args, name) for name in _NUMBERS}
    for name, value in {**numbers, "gpus": min(args.gpus)}.items():
        least = "0 or more" if name in _MAY_BE_ZERO else "above 0"
        if not math.isfinite(value) or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
            parser.error(f"--{name.replace('_', '-')} {value}: use a number {least}")
    if args.mfu > 1 or args.videos < args.global_batch:
        parser.error("use --mfu up to 1 and --videos of at least --global-batch")
    job = dataclasses.replace(
        defaults,
        **numbers,
        gpu=GPUS[args.gpu],
        network=count_work(args.backbone) if args.backbone else defaults.network,
        passes=2.0 if args.symmetric else 1.0,
    )
    estimates = [estimate(dataclasses.replace(job, gpus=count)) for count in sorted(args.gpus)]
    end = scaling_ends(estimates)
    if args.json:
        document = {
            "job": dataclasses.asdict(job),
            "step_tflop": step_tflop(job),
            "estimates": [dataclasses.asdict(found) for found in estimates],
            "efficiency_below_half_from": end,
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return 0
    sys.stdout.write(markdown(estimates))
    sys.stdout.write(f"\nExtrapolated: {step_tflop(job):.0f} TFLOP a step, MFU {args.mfu:.0%} assumed.\n")
    if end is not None:
        sys.stdout.write(f"Efficiency falls below 50 % at {end} GPUs.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
