"""Which device a run computes on, and a refusal where the machine has a GPU that would silently stay unused."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from pal_ds.config import ConfigError

#: What the driver of an NVIDIA GPU leaves on a machine, and in a container that was given one.
_SIGNS = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")


def choose_device(
    wanted: str, local_rank: int = 0, *, environment: Mapping[str, str] = os.environ, root: str = "/"
) -> str:
    """Return ``cuda`` or ``cpu``.

    Args:
        wanted: ``run.device``: auto, cuda or cpu.
        local_rank: this process among those of its host.
        environment: variables of the process.
        root: folder in which the signs of a driver are looked for.

    Raises:
        ConfigError: a GPU that the run would leave unused without having been told to, or none where one is wanted.
    """
    if wanted == "cpu":
        return "cpu"
    usable, reason = _usable()
    if usable:
        # Only someone else can have set it: this project does so where there is no usable GPU, or run.device=cpu.
        if environment.get("DS_ACCELERATOR") == "cpu":
            raise ConfigError(
                "DS_ACCELERATOR",
                "cpu",
                "is exported, and this machine has a GPU, which DeepSpeed would not use: unset it, or set "
                "run.device=cpu",
            )
        gpus = torch.cuda.device_count()
        if local_rank >= gpus:
            raise ConfigError(
                "run.device",
                wanted,
                f"rank {local_rank} of this host finds {gpus} GPU{'s' * (gpus != 1)}: start as many ranks as there "
                "are GPUs, or set run.device=cpu",
            )
        return "cuda"
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    present = not hidden and any((Path(root) / sign.lstrip("/")).exists() for sign in _SIGNS)
    if wanted == "cuda" or present:
        found = "there is an NVIDIA GPU, but torch can't use it" if present else "torch sees no GPU"
        raise ConfigError(
            "run.device",
            wanted,
            f"{found}: {reason}. Install a CUDA build of torch that the driver supports (nvidia-smi shows its "
            "version), or set run.device=cpu",
        )
    return "cpu"


def _usable() -> tuple[bool, str]:
    """Tell whether torch can use a GPU, and why not."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return True, ""
    if torch.version.cuda is None:
        return False, f"torch {torch.__version__} is a build without CUDA"
    text = (
        str(said[0].message)
        if said
        else f"torch {torch.__version__} for CUDA {torch.version.cuda} finds none"
    )
    return False, " ".join(text.split())[:300].rstrip(".")
