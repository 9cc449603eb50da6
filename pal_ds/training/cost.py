"""What a step and a run cost, by arithmetic: time, decoding cores, requests, money. Nothing here is measured.

    python -m pal_ds.training.cost --gpu h100 --gpus 1 2 4 8 16 32 64 --price 3.0

Every assumption is a field of :class:`Job` with its source; docs/scaling.md shows the table and the arithmetic.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence

from pal_ds.config import Config
from pal_ds.training.hardware import GPUS, NETWORKS, Gpu, Network

#: Kernels of a step by layer: forward twice (query, key), backward about twice forward, and the optimizer.
_KERNELS_PER_NORM_LAYER = 20
#: MFU that is hoped for where none is given: the project's first target, 920 videos/s on one H100.
DEFAULT_MFU = 0.20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A pre-training run and the machines it would run on; the defaults are the paper's run on Kinetics-400.

    Attributes:
        gpu: accelerator.
        gpus: how many, W.
        price: money per GPU and hour.
        videos: clips of the training split (240,000 is Kinetics-400's list).
        epochs: passes over them.
        steps: optimizer steps of the whole run; 0: what videos, epochs and batch give.
        global_batch: videos per optimizer step.
        accumulation: micro-steps per optimizer step.
        clips: clips of a view, J.
        network: the backbone's work.
        scale: work of a clip relative to 8 x 112 x 112 at width 1.
        passes: 1 for a query and a key view; 2 with a symmetric loss; a further key adds a quarter.
        queue_dim: size of a key.
        mfu: share of the peak that convolutions reach; an assumption until measured.
        launch_us: host time per kernel, microseconds; below it a GPU waits for Python.
        gpus_per_node: GPUs behind one NVLink domain.
        collective_us: latency of a small collective inside a node; across nodes it is twice that.
        nvlink_gbs: bytes/s of a ring all-reduce inside a node, GB/s.
        network_gbs: the same across nodes, GB/s (12.5 is 100 Gb/s).
        clip_kb: encoded bytes of a clip, kB.
        slice_mb: bytes of one range request, MB.
        decode_per_core: videos one core decodes per second (65: 10 s clips at short side 128 made for fast
            decoding, one core of an AMD EPYC, DESIGN.md §4.9).
        cores_per_gpu: cores that decode for each GPU.
        request_price: money per 1,000 reads of the object store.
    """

    gpu: Gpu = GPUS["h100"]
    gpus: int = 8
    price: float = 3.0
    videos: int = 240_000
    epochs: int = 200
    steps: int = 0
    global_batch: int = 512
    accumulation: int = 1
    clips: int = 8
    network: Network = NETWORKS["i3d"]
    scale: float = 1.0
    passes: float = 1.0
    queue_dim: int = 128
    mfu: float = DEFAULT_MFU
    launch_us: float = 10.0
    gpus_per_node: int = 8
    collective_us: float = 40.0
    nvlink_gbs: float = 200.0
    network_gbs: float = 12.5
    clip_kb: float = 300.0
    slice_mb: float = 1.05
    decode_per_core: float = 65.0
    cores_per_gpu: float = 16.0
    request_price: float = 0.0004


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a job comes to; seconds are per optimizer step unless they say otherwise.

    Attributes:
        gpus: W.
        compute_seconds: convolutions at the assumed MFU, or what memory or kernel launches take if longer.
        compute_limit: which of the three: ``flops``, ``memory`` or ``launches``.
        syncbn_seconds: BatchNorm's collectives.
        gradient_seconds: the all-reduce of the gradients, not overlapped (ZeRO 0).
        other_seconds: the queue's gather and two control all-reduces.
        decode_seconds: decoding a batch on the cores there are; runs beside the GPUs.
        step_seconds: the longer of decoding and the rest.
        limit: ``decoding`` or ``gpu``.
        videos_per_second: of all GPUs together.
        speedup: against the same job on one GPU with the same cores per GPU.
        efficiency: speedup / W.
        cores_needed: decoding cores a GPU needs to be kept busy.
        read_mbs: bytes read from the store, MB/s.
        requests_per_second: reads of the store.
        hours: of the whole run.
        gpu_hours: hours x W.
        gpu_price: money for the GPUs.
        request_price: money for the reads.
    """

    gpus: int
    compute_seconds: float
    compute_limit: str
    syncbn_seconds: float
    gradient_seconds: float
    other_seconds: float
    decode_seconds: float
    step_seconds: float
    limit: str
    videos_per_second: float
    speedup: float
    efficiency: float
    cores_needed: float
    read_mbs: float
    requests_per_second: float
    hours: float
    gpu_hours: float
    gpu_price: float
    request_price: float


def step_tflop(job: Job) -> float:
    """Return the arithmetic of one optimizer step on all GPUs, TFLOP: query forward and backward, key forward."""
    clip = job.network.train_gflop + job.network.forward_gflop
    return job.global_batch * job.clips * job.passes * job.scale * clip / 1e3


def estimate(job: Job) -> Estimate:
    """Compute time, load and price of a job."""
    compute, compute_limit = _compute(job)
    syncbn, gradient, other = _collectives(job)
    busy = compute + syncbn + gradient + other
    decode = job.global_batch / (job.decode_per_core * job.cores_per_gpu * job.gpus)
    step = max(busy, decode)
    alone = step
    if job.gpus > 1:
        alone = estimate(dataclasses.replace(job, gpus=1)).step_seconds
    rate = job.global_batch / step
    read_mbs = rate * job.clip_kb / 1e3
    steps = job.steps or (job.videos // job.global_batch) * job.epochs
    hours = steps * step / 3600
    requests = read_mbs / job.slice_mb
    return Estimate(
        gpus=job.gpus,
        compute_seconds=compute,
        compute_limit=compute_limit,
        syncbn_seconds=syncbn,
        gradient_seconds=gradient,
        other_seconds=other,
        decode_seconds=decode,
        step_seconds=step,
        limit="gpu" if busy >= decode else "decoding",
        videos_per_second=rate,
        speedup=alone / step,
        efficiency=alone / step / job.gpus,
        cores_needed=job.global_batch / busy / job.gpus / job.decode_per_core,
        read_mbs=read_mbs,
        requests_per_second=requests,
        hours=hours,
        gpu_hours=hours * job.gpus,
        gpu_price=hours * job.gpus * job.price,
        request_price=requests * hours * 3600 / 1000 * job.request_price,
    )


def scaling_ends(estimates: Sequence[Estimate], efficiency: float = 0.5) -> int | None:
    """Return the smallest number of GPUs whose efficiency is below ``efficiency``; None where none is."""
    return next((found.gpus for found in estimates if found.efficiency < efficiency), None)


def gpu_videos_per_second(gpu: Gpu, mfu: float = DEFAULT_MFU) -> float:
    """Return how many videos of the paper's run one GPU trains per second at an assumed MFU."""
    job = Job(gpu=gpu, gpus=1, mfu=mfu)
    return job.global_batch / _compute(job)[0]


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
    pixels = (synthesis.size / 112) ** 2 * synthesis.clip_frames / 8
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
        network=NETWORKS[config.model.backbone],
        scale=pixels * config.model.width**2,
        passes=_passes(config),
        queue_dim=config.model.embedding_dim,
        clip_kb=clip_bytes / 1e3,
        slice_mb=data.slice_bytes / 1e6,
        cores_per_gpu=max(1, data.workers),
    )


def _passes(config: Config) -> float:
    """Return a step's work in units of one query (forward, and backward at twice that) with one key (forward)."""
    keys = config.synthesis.views - 1
    queries = 2 if config.model.symmetric else 1
    return (3 * queries + keys + queries - 1) / 4


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


def _compute(job: Job) -> tuple[float, str]:
    clips = job.global_batch * job.clips * job.passes * job.scale / job.gpus
    floors = {
        "flops": step_tflop(job) / job.gpus / (job.gpu.tflops * job.mfu),
        "memory": clips * job.network.moved_mb * 1e6 / (job.gpu.bandwidth * 1e12),
        "launches": job.accumulation
        * job.passes
        * _KERNELS_PER_NORM_LAYER
        * job.network.norms
        * job.launch_us
        / 1e6,
    }
    limit = max(floors, key=lambda name: floors[name])
    return floors[limit], limit


def _collectives(job: Job) -> tuple[float, float, float]:
    """Return the seconds of SyncBN, of the gradients, and of the rest; nothing on one GPU."""
    if job.gpus == 1:
        return 0.0, 0.0, 0.0
    across = job.gpus > job.gpus_per_node
    latency = job.collective_us / 1e6 * (2 if across else 1)
    speed = (job.network_gbs if across else job.nvlink_gbs) * 1e9
    ring = 2 * (job.gpus - 1) / job.gpus
    syncbn = 3 * job.network.norms * job.passes * job.accumulation * latency
    gradient = latency + ring * job.network.parameters * 4 / speed
    queue = latency + job.global_batch * job.queue_dim * 4 / speed
    return syncbn, gradient, queue + 2 * latency


_COLUMNS: tuple[tuple[str, str], ...] = (
    ("GPUs", "{0.gpus}"),
    ("compute ms", "{compute:.1f} ({0.compute_limit})"),
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
            "syncbn": found.syncbn_seconds * 1e3,
            "gradient": found.gradient_seconds * 1e3,
            "decode": found.decode_seconds * 1e3,
            "step": found.step_seconds * 1e3,
            "efficiency": found.efficiency * 100,
            "cores": math.ceil(found.cores_needed),
        }
        lines.append("| " + " | ".join(text.format(found, **values) for _, text in _COLUMNS) + " |")
    return "\n".join(lines) + "\n"


_NUMBERS = {
    "price": "money per GPU and hour",
    "videos": "clips of the training split",
    "epochs": "passes over them",
    "global_batch": "videos per optimizer step",
    "accumulation": "micro-steps per optimizer step",
    "mfu": "share of the GPU's peak that is reached (assumed)",
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
        prog="python -m pal_ds.training.cost",
        description="Time and price of a pre-training run by arithmetic; nothing is measured.",
    )
    parser.add_argument("--gpu", choices=GPUS, default="h100", help="accelerator (default %(default)s)")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8], metavar="N", help="numbers of GPUs")
    parser.add_argument("--backbone", choices=NETWORKS, default="i3d", help="clip encoder")
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
        if not (value > 0 and math.isfinite(value)):
            parser.error(f"--{name.replace('_', '-')} {value}: use a number above 0")
    if args.mfu > 1 or args.videos < args.global_batch:
        parser.error("use --mfu up to 1 and --videos of at least --global-batch")
    job = dataclasses.replace(
        defaults,
        **numbers,
        gpu=GPUS[args.gpu],
        network=NETWORKS[args.backbone],
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
