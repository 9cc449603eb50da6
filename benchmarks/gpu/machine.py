"""The machine: what it is, what the doctor says of it, and its ceilings."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from typing import Any

import torch

from benchmarks.gpu.context import ROOT, Context
from benchmarks.machine import machine
from pal_ds.planning.hardware import find_gpu
from pal_ds.training.environment import versions

#: What is asked of the driver, if there is one.
_ASKED = "name,driver_version,memory.total,clocks.max.sm,power.limit,mig.mode.current"


def facts(context: Context) -> dict[str, Any]:
    """Return processor, card, driver and versions."""
    cudnn: Any = torch.backends.cudnn
    found: dict[str, Any] = {**machine(), "versions": versions(), "cudnn": cudnn.version()}
    found["shm_mb"] = round(shutil.disk_usage("/dev/shm").total / 2**20)
    if shutil.which("nvidia-smi"):
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv"],
            check=False,
            capture_output=True,
            text=True,
        )
        found["nvidia_smi"] = said.stdout.strip().splitlines()
    if context.cuda:
        properties = torch.cuda.get_device_properties(context.device)
        found["memory_gib"] = round(properties.total_memory / 2**30, 2)
        found["multiprocessors"] = properties.multi_processor_count
    return found


def doctor(context: Context) -> dict[str, Any]:
    """Return the doctor's findings; what it calls sick is told, and is no failure of this step."""
    environment = dict(os.environ)
    if not context.cuda:
        environment["DS_ACCELERATOR"] = "cpu"
    done = subprocess.run(
        [sys.executable, "launch/pretrain.py", "doctor", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout.strip():
        raise RuntimeError(f"the doctor said nothing: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ceilings(context: Context) -> dict[str, Any]:
    """Return copy rates and matrix products' rates: what nothing here can be faster than."""
    numbers = context.pick(1 << 30, 1 << 16) // 4
    source = torch.rand(numbers, device=context.device)
    target = torch.empty_like(source)
    moved = 2 * 4 * numbers
    found: dict[str, Any] = {
        "copy on the device, GB/s": moved / context.seconds(lambda: target.copy_(source)) / 1e9
    }
    host = torch.empty(numbers, pin_memory=context.cuda)
    for name, one, two in (("host to device", target, host), ("device to host", host, target)):
        seconds = context.seconds(functools.partial(one.copy_, two, non_blocking=True))
        found[f"{name}, GB/s"] = 4 * numbers / seconds / 1e9
    edge = context.pick(8192, 128)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        one, two = (torch.randn(edge, edge, device=context.device).to(dtype) for _ in range(2))
        seconds = context.seconds(functools.partial(torch.matmul, one, two))
        found[f"matrix product in {str(dtype).removeprefix('torch.')}, TFLOP/s"] = (
            2 * edge**3 / seconds / 1e12
        )
    if context.cuda and (sheet := find_gpu(torch.cuda.get_device_name())):
        found["data sheet"] = {"TFLOP/s": sheet.tflops, "TB/s": sheet.bandwidth, "GiB": sheet.memory_gib}
    return found
