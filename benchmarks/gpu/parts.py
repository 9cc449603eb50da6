"""The parts of a step one by one: are they right on this device, and what do they cost?"""

from __future__ import annotations

import contextlib
import copy
import functools
import multiprocessing
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.nn import functional as F

from benchmarks.gpu.clips import set_of
from benchmarks.gpu.context import Context, difference
from benchmarks.models.common import noise_batch
from pal_ds.data.batch import MicroBatch
from pal_ds.data.loader import GroupLoader
from pal_ds.data.synthesis.render import render
from pal_ds.data.workers import worker_pool as pool
from pal_ds.data.workers.shared_memory import Ring
from pal_ds.models import build_objective, convert_sync_batchnorm
from pal_ds.models.layers.half_precision import half_conv3d_is_sound
from pal_ds.models.layers.light_pool import light_max_pool3d
from pal_ds.models.ssl.key_queue import KeyQueue
from pal_ds.models.ssl.momentum_encoder import MomentumUpdate

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Kernel, stride, padding, ceil mode of I3D's pools.
_POOLS = (
    ((1, 3, 3), (1, 2, 2), (0, 0, 0), True),
    ((3, 3, 3), (2, 2, 2), (0, 0, 0), True),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), True),
    ((2, 2, 2), (2, 2, 2), (0, 0, 0), True),
)


def micro_batch(context: Context) -> MicroBatch:
    """Return one micro-batch of real sources, on the host."""
    config = context.config("data.workers=0")
    loader = GroupLoader(
        str(set_of(context, "small")),
        data=config.data,
        synthesis=config.synthesis,
        augment=config.augment,
        seed=0,
        rank=0,
        world_size=1,
    )
    try:
        return next(loader).clone()
    finally:
        loader.close()


def rendering(context: Context) -> dict[str, Any]:
    """Render one micro-batch here and on the CPU; time it, and count what it launches."""
    config, micro = context.config(), micro_batch(context)
    synthesis, augment = config.synthesis, config.augment
    moved = micro.to(context.device)
    expected, found = render(micro, synthesis, augment), render(moved, synthesis, augment)
    std = torch.tensor(augment.std).view(3, 1, 1, 1)
    grey: list[Tensor] = []
    pairs = [(found["query_bjcthw"], expected["query_bjcthw"]), (found["key_bjcthw"], expected["key_bjcthw"])]
    for here, on_cpu in pairs:
        assert here is not None and on_cpu is not None
        one, two = here.float().cpu(), on_cpu.float()
        grey.append(((one - two) * std * 255).abs().flatten())
    off = torch.cat(grey)
    seconds = context.seconds(lambda: render(moved, synthesis, augment))
    result: dict[str, Any] = {
        "videos": len(micro),
        "largest difference, grey levels": float(off.max()),
        "mean difference, grey levels": float(off.mean()),
        "ms a video": 1e3 * seconds / len(micro),
    }
    if context.cuda:
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            render(moved, synthesis, augment)
            context.wait()
        on_device = [event for event in profile.events() if event.device_type == DeviceType.CUDA]
        result["kernels a video"] = len(on_device) / len(micro)
    return result


def batch_norm(context: Context) -> dict[str, Any]:
    """Synchronise over two processes that share this device, by gloo, and compare with plain BatchNorm in fp64."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(2):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(
                target=_normalise, args=(rank, folder, str(context.device), theirs), daemon=True
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        try:
            answers = []
            for pipe in pipes:
                if not pipe.poll(context.deadline):
                    raise TimeoutError("a rank did not answer")
                answers.append(pipe.recv())
        finally:
            for process in processes:
                process.kill()
                process.join()
    return {name: max(answer[name] for answer in answers) for name in answers[0]}


def _normalise(rank: int, folder: str, device: str, pipe: Any) -> None:
    """Normalise this rank's share of a batch and tell how far everything is from plain BatchNorm of all of it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found: dict[str, float] = {}
    for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        drawn = torch.Generator().manual_seed(3)
        batch = torch.randn(5, 16, 4, 7, 7, generator=drawn).to(dtype)
        slope = torch.randn(batch.shape, generator=drawn).to(dtype)
        plain = nn.BatchNorm3d(16).double()
        whole = batch.double().requires_grad_()
        expected = plain(whole)
        expected.backward(slope.double())
        mine = slice(0, 2) if rank == 0 else slice(2, 5)
        layer = convert_sync_batchnorm(nn.BatchNorm3d(16).to(device))
        part = batch[mine].to(device).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
        output = layer(part)
        output.backward(slope[mine].to(device))
        assert whole.grad is not None and part.grad is not None and plain.running_var is not None
        found[f"{name} output"] = difference(output, expected[mine])
        found[f"{name} gradient"] = difference(part.grad, whole.grad[mine])
        found[f"{name} running variance"] = difference(layer.get_buffer("running_var"), plain.running_var)
    pipe.send(found)


def pooling(context: Context) -> dict[str, Any]:
    """Compare the byte-keeping pool with torch's: values, gradients in both orders, time."""
    return {"rows": [_pooled(context, window) for window in _POOLS]}


def _pooled(context: Context, window: tuple[Any, ...]) -> dict[str, Any]:
    shape = context.pick((64, 192, 4, 28, 28), (2, 8, 4, 8, 8))
    x = torch.randint(-3, 4, shape, device=context.device).to(
        torch.bfloat16 if context.cuda else torch.float32
    )
    x = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    kernel, stride, padding, ceil_mode = window

    def theirs() -> Tensor:
        return F.max_pool3d(x, kernel, stride, padding, ceil_mode=ceil_mode)

    def ours() -> Tensor:
        return light_max_pool3d(x, *window)

    def step(pool: Callable[[], Tensor]) -> Tensor:
        x.grad = None
        pooled = pool()
        torch.autograd.backward(pooled, torch.ones_like(pooled))
        return pooled.detach()

    ways = {"torch": (theirs, False), "light": (ours, False), "ordered": (ours, True)}
    pooled, grads, row = {}, {}, dict[str, Any](window=str(window[:3]))
    for way, (action, ordered) in ways.items():
        torch.use_deterministic_algorithms(ordered)
        pooled[way] = step(action)
        assert x.grad is not None
        grads[way] = x.grad.clone()
        row[f"{way} ms"] = 1e3 * context.seconds(functools.partial(step, action))
        torch.use_deterministic_algorithms(False)
    equal = torch.equal(pooled["light"], pooled["torch"]) and torch.equal(pooled["ordered"], pooled["torch"])
    off = {f"{way} gradient off": difference(grads[way], grads["torch"]) for way in ("light", "ordered")}
    return {**row, "values equal": equal, **off}


def queue(context: Context) -> dict[str, Any]:
    """Fill a queue over its end and move an average, here and on the CPU."""
    torch.manual_seed(0)
    here, there = KeyQueue(100, 16), KeyQueue(100, 16)
    there.load_state_dict(here.state_dict())
    here.to(context.device)
    for count in (30, 90, 7, 120):
        keys = torch.randn(count, 16)
        here.enqueue(keys.to(context.device))
        there.enqueue(keys)
    same = all(torch.equal(one.cpu(), two) for one, two in zip(here.buffers(), there.buffers(), strict=True))
    key, query = nn.Conv3d(3, 64, 3), nn.Conv3d(3, 64, 3)
    moved, followed = (copy.deepcopy(encoder).to(context.device) for encoder in (key, query))
    MomentumUpdate(0.99, steps=10).update(key, query)
    MomentumUpdate(0.99, steps=10).to(context.device).update(moved, followed)
    off = difference(moved.weight, key.weight)
    return {"queue equal": same, "moving average off": off}


def autocast(context: Context) -> dict[str, Any]:
    """Compare loss and gradients in half precision with fp32 on the same weights and batch."""
    config = context.config("model.head_bn=true", "precision=fp32")
    found: dict[str, Any] = {}
    reference: dict[str, Tensor] = {}
    # A CPU's fp16 is right and very slow.
    for name, dtype in list(_DTYPES.items())[: 3 if context.cuda else 2]:
        torch.manual_seed(0)
        objective = build_objective(config.objective, config.model, config.queue).to(context.device)
        torch.manual_seed(1)
        batch = noise_batch(config, context.pick(16, 2), context.device)
        with torch.autocast(context.device.type, dtype=dtype, enabled=name != "fp32"):
            loss = objective(batch).loss
        (loss * 128).backward()
        grads = torch.cat(
            [value.grad.flatten() for value in objective.parameters() if value.grad is not None]
        )
        if name == "fp32":
            reference = {"loss": loss.detach(), "grads": grads}
            continue
        cosine = F.cosine_similarity(grads.double(), reference["grads"].double(), dim=0)
        found[name] = {
            "3D convolutions are sound": half_conv3d_is_sound(context.device.type, dtype),
            "loss off": difference(loss, reference["loss"]),
            "cosine of gradients": float(cosine),
        }
    return found


def page_lock(context: Context) -> dict[str, Any]:
    """Copy a worker's shared memory to the device, page-locked and not: right, and how fast?"""
    ring = Ring(2, context.pick(256 << 20, 1 << 16))
    ring.memory.random_(0, 256, generator=torch.Generator().manual_seed(0))
    target = torch.empty_like(ring.memory, device=context.device)
    found: dict[str, Any] = {}
    for name, lock in (("pageable", False), ("page-locked", True)):
        locked = pool._page_lock(ring.memory) if lock else False
        seconds = context.seconds(lambda: target.copy_(ring.memory, non_blocking=True))
        found[f"{name}, GB/s"] = ring.memory.numel() / seconds / 1e9
        found[f"{name}, equal"] = bool(torch.equal(target.cpu(), ring.memory))
        if locked:
            with contextlib.suppress(RuntimeError):
                pool._cudart().cudaHostUnregister(ring.memory.data_ptr())
        found["page-locked"] = locked
    ring.close()
    return found
