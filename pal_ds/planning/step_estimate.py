"""A step's time, load and price by arithmetic; nothing here is measured.

Every assumption is a field of :class:`Job` with its source. ``pal_ds/planning/cost.py`` fills it from a config or a
command line; docs/scaling.md shows the table and the arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pal_ds.planning.hardware import DECODE_PER_CORE, GPUS, Gpu
from pal_ds.planning.network_work import Network

#: Kernels of a step by layer: forward twice (query, key), backward about twice forward, and the optimizer.
_KERNELS_PER_NORM_LAYER = 20
#: MFU that is hoped for where none is given: 920 videos/s on one H100.
DEFAULT_MFU = 0.20


#: I3D as the paper counts it: 3.57 GMAC, element-wise work included, 2 % above what ``count_work`` counts. A backward
#: pass is twice that less the stem's input gradient (0.83 GMAC). docs/scaling.md is about this network.
PAPER_NETWORK = Network(
    forward_gflop=7.13, train_gflop=3 * 7.13 - 1.66, parameters=12.29e6, norms=57, moved_mb=173.0
)


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
        network: the backbone's work; the paper's I3D.
        scale: work of a clip relative to 8 x 112 x 112 at width 1.
        passes: 1 for a query and a key view; 2 with a symmetric loss; a further key adds a quarter.
        queue_dim: size of a key.
        mfu: share of the peak that convolutions reach; an assumption until measured.
        launch_us: host time per kernel, microseconds; below it a GPU waits for Python.
        render_mb: memory traffic of rendering a video's views, MB: by arithmetic, until measured on a GPU.
        render_kernels: kernels that rendering launches for a video (counted: benchmarks/streaming).
        source_mb: bytes of a video that are copied to the device, MB.
        host_gbs: bytes/s from page-locked memory to a device, GB/s; beside the computing, on a stream of its own.
        waits: times that the host waits for the device in a micro-step; none with ZeRO 0 in fp32 and bf16 (counted).
        wait_us: what such a wait costs: the device runs dry until kernels are launched again, microseconds.
        gpus_per_node: GPUs behind one NVLink domain.
        collective_us: latency of a small collective inside a node; across nodes it is twice that.
        nvlink_gbs: bytes/s of a ring all-reduce inside a node, GB/s.
        network_gbs: the same across nodes, GB/s (12.5 is 100 Gb/s).
        clip_kb: encoded bytes of a clip, kB.
        slice_mb: bytes of one range request, MB.
        decode_per_core: videos one core decodes per second.
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
    network: Network = PAPER_NETWORK
    scale: float = 1.0
    passes: float = 1.0
    queue_dim: int = 128
    mfu: float = DEFAULT_MFU
    launch_us: float = 10.0
    render_mb: float = 330.0
    render_kernels: float = 6.2
    source_mb: float = 8.7
    host_gbs: float = 25.0
    waits: float = 0.0
    wait_us: float = 300.0
    gpus_per_node: int = 8
    collective_us: float = 40.0
    nvlink_gbs: float = 200.0
    network_gbs: float = 12.5
    clip_kb: float = 300.0
    slice_mb: float = 2.1
    decode_per_core: float = DECODE_PER_CORE
    cores_per_gpu: float = 16.0
    request_price: float = 0.0004


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a job comes to; seconds are per optimizer step unless they say otherwise.

    Attributes:
        gpus: W.
        compute_seconds: convolutions at the assumed MFU, or what memory or kernel launches take if longer.
        compute_limit: which of the three: ``flops``, ``memory`` or ``launches``.
        render_seconds: rendering the views, by memory traffic.
        wait_seconds: the device run dry because the host waited for it.
        copy_seconds: copies of sources to the device; beside the computing.
        syncbn_seconds: BatchNorm's collectives.
        gradient_seconds: the all-reduce of the gradients, not overlapped (ZeRO 0).
        other_seconds: the queue's gather and two control all-reduces.
        decode_seconds: decoding a batch on the cores there are; runs beside the GPUs.
        step_seconds: the longest of decoding, copies and the rest.
        limit: ``decoding``, ``copies`` or ``gpu``.
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
    render_seconds: float
    wait_seconds: float
    copy_seconds: float
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
    videos = job.global_batch / job.gpus
    render = videos * job.render_mb * 1e6 / (job.gpu.bandwidth * 1e12)
    wait = job.accumulation * job.waits * job.wait_us / 1e6
    copy = videos * job.source_mb * 1e6 / (job.host_gbs * 1e9)
    busy = compute + render + wait + syncbn + gradient + other
    decode = job.global_batch / (job.decode_per_core * job.cores_per_gpu * job.gpus)
    sides = {"gpu": busy, "decoding": decode, "copies": copy}
    limit = max(sides, key=lambda name: sides[name])
    step = sides[limit]
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
        render_seconds=render,
        wait_seconds=wait,
        copy_seconds=copy,
        syncbn_seconds=syncbn,
        gradient_seconds=gradient,
        other_seconds=other,
        decode_seconds=decode,
        step_seconds=step,
        limit=limit,
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


def _compute(job: Job) -> tuple[float, str]:
    clips = job.global_batch * job.clips * job.passes * job.scale / job.gpus
    floors = {
        "flops": step_tflop(job) / job.gpus / (job.gpu.tflops * job.mfu),
        "memory": clips * job.network.moved_mb * 1e6 / (job.gpu.bandwidth * 1e12),
        "launches": (
            job.accumulation * job.passes * _KERNELS_PER_NORM_LAYER * job.network.norms
            + job.render_kernels * job.global_batch / job.gpus
        )
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
