"""Numeric rules shared by heads, loss and queue: full precision where the loss is made."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

NORM_EPS = 1e-6


def at_least_fp32(x: Tensor) -> Tensor:
    """Half-precision tensors as fp32, wider ones untouched (so that fp64 models stay fp64)."""
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x


def unit(x: Tensor) -> Tensor:
    """L2-normalise the last axis in at least fp32; a zero vector stays zero."""
    return torch.nn.functional.normalize(at_least_fp32(x), dim=-1, eps=NORM_EPS)


def full_precision(like: Tensor) -> contextlib.AbstractContextManager[None]:
    """Context without autocast on the device of ``like`` (matrix products would be cast down)."""
    context: contextlib.AbstractContextManager[None] = torch.autocast(like.device.type, enabled=False)
    return context
