"""The five CUDA kernels behind torch's SyncBatchNorm, rewritten for the CPU in its own order of operations.

After aten/src/ATen/native/cuda/Normalization.cuh of torch 2.13: the joint statistics are taken rank by rank, so that
a count of 0 divides by 0 there as it does on the device, and counts are added up in integers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from pal_ds.models.layers import sync_batchnorm

#: True while a kernel runs.
inside = False


def stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    var_c, mean_c = torch.var_mean(x, dim=_axes(x), correction=0)
    return mean_c, (var_c + eps).rsqrt()


def gather_stats(
    like: Tensor,
    mean_rc: Tensor,
    invstd_rc: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    count_r: Tensor,
) -> tuple[Tensor, Tensor]:
    assert count_r.dtype == (like if running_mean is None else running_mean).dtype
    mean_c, sum_c, total = torch.zeros_like(mean_rc[0]), torch.zeros_like(mean_rc[0]), 0
    for their_mean_c, invstd_c, their_count in zip(mean_rc, invstd_rc, count_r, strict=True):
        count = their_count.double()
        var_c = (invstd_c.reciprocal() ** 2 - eps) * count
        factor = 1.0 / (total + count)
        sum_c = sum_c + var_c + (mean_c - their_mean_c) ** 2 * total * count * factor
        mean_c = total * factor * mean_c + count * factor * their_mean_c
        total = int(total + count)
    if running_mean is not None and running_var is not None:
        running_mean.copy_((1 - momentum) * running_mean + momentum * mean_c)
        running_var.copy_((1 - momentum) * running_var + momentum * sum_c / (total - 1))
    return mean_c, (sum_c / total + eps).rsqrt()


def elemt(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean_c: Tensor, invstd_c: Tensor, eps: float
) -> Tensor:
    del eps
    hat = (x - _wide(mean_c, x)) * _wide(invstd_c, x)
    return hat if weight is None or bias is None else hat * _wide(weight, x) + _wide(bias, x)


def backward_reduce(
    grad: Tensor,
    x: Tensor,
    mean_c: Tensor,
    invstd_c: Tensor,
    weight: Tensor | None,
    input_wanted: bool,
    weight_wanted: bool,
    bias_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    assert input_wanted
    assert weight_wanted == bias_wanted == (weight is not None)
    sum_c = grad.sum(_axes(x))
    product_c = (grad * (x - _wide(mean_c, x))).sum(_axes(x))
    affine = (product_c * invstd_c, sum_c.clone()) if weight_wanted else (None, None)
    return sum_c, product_c, *affine


def backward_elemt(
    grad: Tensor,
    x: Tensor,
    mean_c: Tensor,
    invstd_c: Tensor,
    weight: Tensor | None,
    sum_c: Tensor,
    product_c: Tensor,
    count_r: Tensor,
) -> Tensor:
    assert count_r.dtype == torch.int32
    total = int(count_r.sum())
    scale_c = invstd_c if weight is None else invstd_c * weight
    slope_c = invstd_c**2 * product_c / total
    inner = grad - _wide(sum_c / total, x) - (x - _wide(mean_c, x)) * _wide(slope_c, x)
    return inner * _wide(scale_c, x)


@contextlib.contextmanager
def kernels() -> Iterator[None]:
    """Within it, synchronised BatchNorm takes the way of CUDA tensors."""
    named = {
        "batch_norm_stats": stats,
        "batch_norm_gather_stats_with_counts": gather_stats,
        "batch_norm_elemt": elemt,
        "batch_norm_backward_reduce": backward_reduce,
        "batch_norm_backward_elemt": backward_elemt,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sync_batchnorm, "_has_kernels", return_value=True))
        for name, function in named.items():
            stack.enter_context(mock.patch.object(torch, name, _marked(function)))
        yield


def _marked(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        global inside  # noqa: PLW0603
        inside = True
        try:
            return function(*args)
        finally:
            inside = False

    return call


def _axes(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]


def _wide(values_c: Tensor, x: Tensor) -> Tensor:
    return values_c.view(1, -1, *([1] * (x.ndim - 2)))
