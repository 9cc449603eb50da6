"""What a run ran on: versions, devices, world; for ``environment.json`` and for checkpoints."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import pal_ds
from pal_ds.distributed.ranks import Ranks

_PACKAGES = ("torch", "deepspeed", "torchcodec", "webdataset", "fsspec", "s3fs", "numpy", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of this project, of Python and of the packages that decide results."""
    found = {"pal-ds": pal_ds.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe_environment(ranks: Ranks, hosts: Sequence[str]) -> dict[str, Any]:
    """Return versions, device, world and the commit of the code, where it runs from a checkout.

    Args:
        ranks: this process.
        hosts: host name of every rank.
    """
    device: dict[str, Any] = {"type": ranks.device.type, "threads": torch.get_num_threads()}
    if ranks.device.type == "cuda":
        properties = torch.cuda.get_device_properties(ranks.device)
        device |= {"name": properties.name, "memory": properties.total_memory, "cuda": torch.version.cuda}
    else:
        device["name"] = platform.processor() or platform.machine()
    return {
        "versions": versions(),
        "device": device,
        "world_size": ranks.world_size,
        "hosts": list(hosts),
        "cores": len(os.sched_getaffinity(0)),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that the package lies in; an installed package has none.

    An environment may lie inside the repository of another project, whose commit says nothing about this code.
    """
    checkout = Path(pal_ds.__file__).resolve().parents[1]
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--show-toplevel", "HEAD"],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    top, commit = found.stdout.splitlines()
    return commit if Path(top).resolve() == checkout else None
