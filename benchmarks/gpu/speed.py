"""How fast a step is, how large a batch fits, where the time goes: on noise, so that nothing but the model counts."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu.context import LETTER, ROOT, Context
from benchmarks.models.gpu import DTYPES, flops_of, make_step
from benchmarks.models.gpu import largest_batch as most_videos
from pal_ds.config import load_config
from pal_ds.planning.hardware import find_gpu
from pal_ds.planning.memory import GIB, memory_need

#: Words beside the config, and videos of a step.
_VARIANTS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("eager", (), 64),
    ("eager, 128 videos", (), 128),
    ("compiled", ("model.compile=true",), 64),
    ("eager, contiguous", ("model.channels_last=false",), 64),
    ("2 stages recomputed", ("model.recompute_stages=2",), 64),
    ("eager, 256 videos", (), 256),
    ("2 stages recomputed, 512 videos", ("model.recompute_stages=2",), 512),
)
_CATEGORIES = {
    "convolution": ("conv", "cudnn", "xmma", "implicit", "wgrad", "dgrad", "fprop"),
    "batch norm": ("batch_norm", "bn_", "norm"),
    "pooling": ("pool",),
    "copies and casts": ("copy", "cast", "memcpy", "memset"),
    "matrix products": ("gemm", "gemv"),
    "element by element": ("elementwise", "vectorized", "relu", "cat"),
}


def _words(context: Context) -> list[str]:
    places = ["data.shards=none", "run.dir=none"]
    return [*context.words(*places)] if context.tiny else [*places, f"precision={context.precision}"]


def step_time(context: Context) -> dict[str, Any]:
    """Time a step in several forms; one that fails is a row that says so."""
    base, dtype = _words(context), DTYPES[context.precision]
    sheet = find_gpu(torch.cuda.get_device_name()) if context.cuda else None
    flops = flops_of(base, context.device)
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    if context.cuda:
        torch.backends.cudnn.benchmark = True
    for name, words, videos in _VARIANTS[: context.pick(None, 1)]:
        if time.monotonic() - began > 0.8 * context.deadline:
            rows.append({"form": name, "error": "left out: the step's time is up"})
            continue
        count = context.pick(videos, 4)
        try:
            if context.cuda:
                torch.cuda.reset_peak_memory_stats()
            seconds = context.seconds(make_step([*base, *words], count, context.device, dtype), 10)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            rows.append({"form": name, "videos": count, "error": " ".join(str(error).split())[:300]})
            continue
        finally:
            if context.cuda:
                torch.cuda.empty_cache()
        row: dict[str, Any] = {
            "form": name,
            "videos": count,
            "ms": 1e3 * seconds,
            "videos/s": count / seconds,
        }
        if sheet is not None:
            row["MFU"] = count * flops / seconds / (sheet.tflops * 1e12)
        if context.cuda:
            row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        rows.append(row)
    return {"TFLOP a video": flops / 1e12, "rows": rows}


def largest_batch(context: Context) -> dict[str, Any]:
    """Return the largest batch that fits, and what the planner says, with and without recomputed stages."""
    found: dict[str, Any] = {}
    for stages in (0, 2):
        words = [*_words(context), f"model.recompute_stages={stages}"]
        config = load_config(ROOT / LETTER, words)
        need = memory_need(config, 1)
        name = f"{stages} stages recomputed"
        capacity = 79.1 * GIB
        if context.cuda:
            capacity = float(torch.cuda.get_device_properties(context.device).total_memory)
            found[f"{name}, found"] = most_videos(words, context.device, DTYPES[context.precision], 256)
        found[f"{name}, planned"] = need.largest(capacity, config.data.group_size)
    return found


def kernels(context: Context) -> dict[str, Any]:
    """Profile three steps: kernels by kind, how many, and what made the host wait."""
    step = make_step(_words(context), context.pick(64, 4), context.device, DTYPES[context.precision])
    for _ in range(context.pick(3, 1)):
        step()
    context.wait()
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if context.cuda else []
    steps = context.pick(3, 1)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            step()
        context.wait()
    kind = DeviceType.CUDA if context.cuda else DeviceType.CPU
    rows, by_kind, count = [], dict.fromkeys([*_CATEGORIES, "other"], 0.0), 0
    for event in profile.key_averages():
        if event.device_type != kind:
            continue
        taken = event.self_device_time_total if context.cuda else event.self_cpu_time_total
        count += event.count
        by_kind[_category(event.key)] += taken / 1e3 / steps
        rows.append(
            {"kernel": event.key[:90], "ms a step": taken / 1e3 / steps, "a step": event.count / steps}
        )
    rows.sort(key=lambda row: -float(row["ms a step"]))
    waits = {event.key: event.count / steps for event in profile.key_averages() if "Synchronize" in event.key}
    return {
        "kernels a step": count / steps,
        "ms by kind": by_kind,
        "host waits a step": waits,
        "rows": rows[:25],
    }


def _category(name: str) -> str:
    text = name.lower()
    return next((kind for kind, parts in _CATEGORIES.items() if any(part in text for part in parts)), "other")
