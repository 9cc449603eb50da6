"""Synchronised BatchNorm on any device: one gather forward and one all-reduce backward per layer.

``torch.nn.SyncBatchNorm`` refuses CPU tensors as soon as a process group exists, and on CUDA it leaves out ranks
without samples by a boolean index, for which the host waits three times a layer. The class here takes the same
kernels on CUDA and lets such a rank count next to nothing instead; elsewhere, and under ``torch.compile``, it is
written in plain torch. Statistics are at least fp32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from pal_ds.distributed.collectives import all_gather_flat, all_reduce_sum
from pal_ds.models.layers.numerics import at_least_fp32


def convert_sync_batchnorm(module: nn.Module, process_group: dist.ProcessGroup | None = None) -> nn.Module:
    """Replace every BatchNorm below ``module`` by one that takes its statistics over all ranks.

    State-dict keys stay the same. Convert before an engine or optimizer wraps the module.

    Args:
        module: changed in place; a bare BatchNorm is returned converted.
        process_group: ranks that share statistics; None means all.

    Returns:
        The converted module.
    """
    if isinstance(module, _BatchNorm) and not isinstance(module, (AllReduceBatchNorm, nn.SyncBatchNorm)):
        return AllReduceBatchNorm.from_batch_norm(module, process_group)
    for name, child in list(module.named_children()):
        converted = convert_sync_batchnorm(child, process_group)
        if converted is not child:
            setattr(module, name, converted)
    return module


def _ranks(process_group: dist.ProcessGroup | None) -> int:
    return dist.get_world_size(process_group) if dist.is_available() and dist.is_initialized() else 1


class AllReduceBatchNorm(_BatchNorm):
    """BatchNorm over the joint batch of all ranks, whose counts may differ.

    In eval mode, or where no process group of more than one rank exists, it is plain BatchNorm.
    """

    def __init__(
        self, num_features: int, *, process_group: dist.ProcessGroup | None = None, **options: Any
    ) -> None:
        super().__init__(num_features, **options)
        self.process_group = process_group

    @classmethod
    def from_batch_norm(
        cls, plain: _BatchNorm, process_group: dist.ProcessGroup | None = None
    ) -> AllReduceBatchNorm:
        """Take over parameters and buffers of a plain BatchNorm (the same tensors, not copies)."""
        converted = cls(
            plain.num_features,
            process_group=process_group,
            eps=plain.eps,
            momentum=plain.momentum,
            affine=plain.affine,
            track_running_stats=plain.track_running_stats,
        )
        if plain.affine:
            converted.weight, converted.bias = plain.weight, plain.bias
        converted.running_mean, converted.running_var = plain.running_mean, plain.running_var
        converted.num_batches_tracked = plain.num_batches_tracked
        converted.training = plain.training
        return converted

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, ...]."""
        if not self.training or _ranks(self.process_group) == 1:
            return super().forward(input)
        self._check_input_dim(input)
        if _has_kernels(input):
            return self._fused(input)
        join: Any = _JointBatchNorm.apply
        output, mean_c, var_c, count = join(input, self.weight, self.bias, self.eps, self.process_group)
        self._track(mean_c, var_c, count)
        joined: Tensor = output
        return joined

    def _fused(self, input: Tensor) -> Tensor:
        tracked = self.running_mean, self.running_var, self.num_batches_tracked
        # The kernel takes the momentum as a number; that of a mean over all batches is known to the device alone.
        share = self.momentum if None not in tracked else None
        running = (self.running_mean, self.running_var) if share is not None else (None, None)
        join: Any = _FusedBatchNorm.apply
        output, mean_c, invstd_c, count_r = join(
            input, self.weight, self.bias, *running, share or 0.0, self.eps, self.process_group
        )
        if share is None:
            self._track(mean_c, invstd_c.square().reciprocal() - self.eps, count_r.sum())
        elif self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        fused: Tensor = output
        return fused

    @torch.no_grad()
    def _track(self, mean_c: Tensor, var_c: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share: Any = self.momentum
        if share is None:
            share = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        unbiased_c = var_c * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean_c.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased_c.to(self.running_var.dtype), share)


def _has_kernels(x: Tensor) -> bool:
    # A compiler joins the plain form with the operators around it, which it can't with finished kernels.
    return x.is_cuda and not torch.compiler.is_compiling()


#: Samples of a rank that has none: the kernels divide by counts, so that 0 would be NaN.
_NEXT_TO_NONE = 1e-30


class _FusedBatchNorm(torch.autograd.Function):
    """As :class:`_JointBatchNorm`, by the kernels of torch's own class and without a wait of the host."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, channels = _dense(x), x.shape[1]
        count = x.numel() // channels
        if count:
            mean_c, invstd_c = torch.batch_norm_stats(x, eps)
        else:
            mean_c = torch.zeros(channels, dtype=at_least_fp32(x).dtype, device=x.device)
            invstd_c = torch.ones_like(mean_c)
        mine = torch.cat((mean_c, invstd_c, mean_c.new_full((1,), max(count, _NEXT_TO_NONE))))
        ranks = dist.get_world_size(group)
        theirs = mine.new_empty(ranks * mine.numel())
        all_gather_flat(theirs, mine, group=group)
        mean_rc, invstd_rc, count_r1 = torch.split(theirs.view(ranks, -1), [channels, channels, 1], dim=1)
        count_r = count_r1.reshape(-1)
        # The first argument only tells the type of the statistics.
        mean_c, invstd_c = torch.batch_norm_gather_stats_with_counts(
            mean_c, mean_rc, invstd_rc, running_mean, running_var, momentum, eps, count_r
        )
        ctx.save_for_backward(x, weight, mean_c, invstd_c, count_r.to(torch.int32))
        ctx.group = group
        ctx.mark_non_differentiable(mean_c, invstd_c, count_r)
        output = (
            torch.batch_norm_elemt(x, weight, bias, mean_c, invstd_c, eps) if count else torch.empty_like(x)
        )
        return output, mean_c, invstd_c, count_r

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, mean_c, invstd_c, count_r = ctx.saved_tensors
        grad = _dense(grad)
        if x.numel():
            sum_c, product_c, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
                grad, x, mean_c, invstd_c, weight, True, weight is not None, weight is not None
            )
        else:
            sum_c, product_c = torch.zeros_like(mean_c), torch.zeros_like(mean_c)
            grad_weight = grad_bias = torch.zeros_like(mean_c)
        sums_2c = torch.stack((sum_c, product_c))
        all_reduce_sum(sums_2c, group=ctx.group)
        grad_x = torch.zeros_like(x)
        if x.numel():
            wide = None if weight is None else weight.to(mean_c.dtype)
            grad_x = torch.batch_norm_backward_elemt(
                grad, x, mean_c, invstd_c, wide, sums_2c[0], sums_2c[1], count_r
            )
        affine = (grad_weight, grad_bias) if weight is not None else (None, None)
        return grad_x, *affine, None, None, None, None, None


def _dense(x: Tensor) -> Tensor:
    """Return a tensor in one of the layouts that the kernels know."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    kept = x.ndim in layouts and x.is_contiguous(memory_format=layouts[x.ndim])
    return x if kept else x.contiguous()


class _JointBatchNorm(torch.autograd.Function):
    """Normalise by the statistics of all ranks, differentiable through them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_c, var_c, count = _joint_statistics(x, group)
        output = F.batch_norm(x, mean_c, var_c, weight, bias, training=False, eps=eps)
        invstd_c = torch.rsqrt(var_c + eps)
        ctx.save_for_backward(x, weight, mean_c, invstd_c, count)
        ctx.group = group
        ctx.mark_non_differentiable(mean_c, var_c, count)
        return output, mean_c, var_c, count

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *_: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, mean_c, invstd_c, count = ctx.saved_tensors
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *([1] * (x.ndim - 2))]
        wide_grad, wide_x = at_least_fp32(grad), at_least_fp32(x)
        sums_2c = torch.stack(
            (wide_grad.sum(axes), (wide_grad * (wide_x - mean_c.view(shape))).sum(axes) * invstd_c)
        )
        grad_weight = sums_2c[1].clone() if weight is not None else None
        grad_bias = sums_2c[0].clone() if weight is not None else None
        all_reduce_sum(sums_2c, group=ctx.group)
        mean_grad_c, mean_grad_hat_c = sums_2c / count
        # dx = scale * (dy - mean(dy) - x_hat * mean(dy * x_hat)), written as an affine map of dy and x.
        scale_c = invstd_c if weight is None else invstd_c * weight
        slope_c = -scale_c * mean_grad_hat_c * invstd_c
        offset_c = -scale_c * mean_grad_c - slope_c * mean_c
        grad_x = torch.addcmul(offset_c.view(shape), wide_x, slope_c.view(shape))
        grad_x = torch.addcmul(grad_x, wide_grad, scale_c.view(shape)).to(x.dtype)
        return grad_x, grad_weight, grad_bias, None, None


def _joint_statistics(x: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and count (scalar) over the batches of all ranks."""
    wide = at_least_fp32(x)
    axes = [axis for axis in range(x.ndim) if axis != 1]
    if x.numel():
        var_c, mean_c = torch.var_mean(wide, dim=axes, correction=0)
    else:
        var_c = mean_c = torch.zeros(x.shape[1], dtype=wide.dtype, device=x.device)
    count = torch.full((1,), x.numel() // x.shape[1], dtype=wide.dtype, device=x.device)
    mine = torch.cat((mean_c, var_c, count))
    ranks = dist.get_world_size(group)
    theirs = mine.new_empty(ranks * mine.numel())
    all_gather_flat(theirs, mine, group=group)
    channels = mean_c.numel()
    mean_rc, var_rc, count_r1 = torch.split(theirs.view(ranks, -1), [channels, channels, 1], dim=1)
    total = count_r1.sum()
    joint_mean_c = (mean_rc * count_r1).sum(0) / total
    joint_var_c = ((var_rc + (mean_rc - joint_mean_c).square()) * count_r1).sum(0) / total
    return joint_mean_c, joint_var_c, total
