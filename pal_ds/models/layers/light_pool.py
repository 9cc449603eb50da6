"""Max pooling that keeps one byte per output for its backward pass.

torch keeps the int64 index of every maximum, and the input beside it: a third of what I3D keeps of a clip. An index
is the window's first element plus one of a few distances, at most one per element of the window: a byte says which.
Values, ties, padding and gradients are torch's own: its forward finds the indices, its backward is handed them back.
Batches are worked on in parts, so that indices in full are never there for more than a part.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

#: Outputs whose indices are there in full at a time: 0.5 GB of them.
PART = 1 << 26
_CODES = 256

Triple = tuple[int, int, int]


class Window(NamedTuple):
    """How a volume is pooled; every field as in :func:`torch.nn.functional.max_pool3d`."""

    kernel: Triple
    stride: Triple
    padding: Triple
    ceil_mode: bool


class LightMaxPool3d(nn.Module):
    """:class:`torch.nn.MaxPool3d` that keeps a byte per output; volumes [B, C, T, H, W].

    Args:
        kernel: window size in time, height, width; at most 256 elements.
        stride: likewise.
        padding: likewise; the border holds minus infinity.
    """

    def __init__(self, kernel: Triple, stride: Triple, padding: Triple = (0, 0, 0)) -> None:
        super().__init__()
        self.window = Window(kernel, stride, padding, ceil_mode=False)

    def forward(self, x_bcthw: Tensor) -> Tensor:
        """Pool [B, C, T, H, W]."""
        return light_max_pool3d(x_bcthw, *self.window)


class LightMaxPool2d(nn.Module):
    """:class:`torch.nn.MaxPool2d` that keeps a byte per output; maps [B, C, H, W].

    Args:
        kernel: window size in height and width.
        stride: likewise.
        padding: likewise.
    """

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.window = Window((1, kernel, kernel), (1, stride, stride), (0, padding, padding), ceil_mode=False)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Pool [B, C, H, W]."""
        return light_max_pool3d(x_bchw.unsqueeze(2), *self.window).squeeze(2)


def light_max_pool3d(
    x_bcthw: Tensor, kernel: Triple, stride: Triple, padding: Triple, ceil_mode: bool = False
) -> Tensor:
    """Pool [B, C, T, H, W] by maxima; equal to :func:`torch.nn.functional.max_pool3d` in values and gradients.

    Under :func:`torch.use_deterministic_algorithms` the gradient is summed in a fixed order on every device, where
    torch's own adds atomically on CUDA.

    Raises:
        ValueError: a window of more than 256 elements, or no batch dimension.
    """
    window = Window(kernel, stride, padding, ceil_mode)
    if kernel[0] * kernel[1] * kernel[2] > _CODES or x_bcthw.ndim != 5:
        raise ValueError(
            f"kernel = {kernel} on {x_bcthw.ndim} dimensions: use up to {_CODES} elements on [B, C, T, H, W]"
        )
    if not (torch.is_grad_enabled() and x_bcthw.requires_grad):
        parts = [F.max_pool3d(part, kernel, stride, padding, ceil_mode=ceil_mode) for part in _parts(x_bcthw)]
        return _joined(parts)
    pool: Any = _LightMaxPool.apply
    pooled: Tensor = pool(x_bcthw, window)
    return pooled


class _LightMaxPool(torch.autograd.Function):
    """torch's max pooling with its indices packed between forward and backward."""

    @staticmethod
    def forward(ctx: Any, x_bcthw: Tensor, window: Window) -> Tensor:
        pooled, codes = [], []
        distances = _distances(window.kernel, x_bcthw.shape[3], x_bcthw.shape[4])
        modulus = _modulus(distances)
        for part in _parts(x_bcthw):
            values, index = F.max_pool3d(
                part,
                window.kernel,
                window.stride,
                window.padding,
                ceil_mode=window.ceil_mode,
                return_indices=True,
            )
            pooled.append(values)
            codes.append(_packed(index, _first_elements(x_bcthw, index, window), distances, modulus))
        ctx.save_for_backward(_joined(codes))
        ctx.window, ctx.shape, ctx.layout = window, x_bcthw.shape, _layout(x_bcthw)
        return _joined(pooled)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_bcthw: Tensor) -> tuple[Tensor, None]:
        (codes,) = ctx.saved_tensors
        gradient = _gradient_in_order if torch.are_deterministic_algorithms_enabled() else _gradient
        grad_bcthw = grad_bcthw.contiguous(memory_format=ctx.layout)
        pairs = zip(_parts(grad_bcthw), _parts(codes), strict=True)
        return _joined(
            [gradient(grad, code, ctx.shape, ctx.layout, ctx.window) for grad, code in pairs]
        ), None


def _gradient(
    grad: Tensor, code: Tensor, shape: torch.Size, layout: torch.memory_format, window: Window
) -> Tensor:
    """Gradient of a part by torch's own backward pass, from the indices unpacked."""
    like = grad.new_empty((len(grad), *shape[1:])).contiguous(memory_format=layout)
    first = _first_elements(like, code, window)
    index = first + _unpacked(code, _distances(window.kernel, shape[3], shape[4]))
    backward = torch.ops.aten.max_pool3d_with_indices_backward
    found: Tensor = backward(
        grad,
        like,
        window.kernel,
        window.stride,
        window.padding,
        (1, 1, 1),
        window.ceil_mode,
        index.contiguous(memory_format=layout),
    )
    return found


def _gradient_in_order(
    grad: Tensor, code: Tensor, shape: torch.Size, layout: torch.memory_format, window: Window
) -> Tensor:
    """Gradient of a part, summed window element by window element, in at least fp32 and always in one order.

    Elements go from the last to the first, which is the order of outputs: on a CPU the sums are torch's to the bit.
    """
    distances = _distances(window.kernel, shape[3], shape[4])
    modulus = _modulus(distances)
    sizes = [
        max(size + 2 * pad, (count - 1) * step + kernel)
        for size, pad, count, step, kernel in zip(
            shape[2:], window.padding, grad.shape[2:], window.stride, window.kernel, strict=True
        )
    ]
    wide = grad if grad.dtype == torch.float64 else grad.float()
    total = wide.new_zeros((len(grad), shape[1], *sizes)).contiguous(memory_format=layout)
    for element in reversed(list(itertools.product(*map(range, window.kernel)))):
        distance = (element[0] * shape[3] + element[1]) * shape[4] + element[2]
        here: tuple[Any, ...] = tuple(
            slice(at, at + (count - 1) * step + 1, step)
            for at, count, step in zip(element, grad.shape[2:], window.stride, strict=True)
        )
        number = distance % modulus if modulus else distances.index(distance)
        total[(..., *here)] += wide.masked_fill(code != number, 0)
    inside: tuple[Any, ...] = tuple(
        slice(pad, pad + size) for pad, size in zip(window.padding, shape[2:], strict=True)
    )
    return total[(..., *inside)].to(grad.dtype, memory_format=layout)


def _packed(index: Tensor, first: Tensor, distances: tuple[int, ...], modulus: int) -> Tensor:
    """Return a byte for each index: its distance from the window's first element, taken modulo a fitting number."""
    distance = torch.empty_like(index, dtype=torch.int32)
    torch.sub(index, first, out=distance)
    if modulus:
        return torch.remainder(distance, modulus, out=torch.empty_like(index, dtype=torch.uint8))
    known = torch.tensor(distances, dtype=torch.int32, device=index.device)
    return torch.searchsorted(known, distance.contiguous(), out_int32=True).to(torch.uint8)


def _unpacked(code: Tensor, distances: tuple[int, ...]) -> Tensor:
    modulus = _modulus(distances)
    table = [0] * _CODES
    for number, distance in enumerate(distances):
        table[distance % modulus if modulus else number] = distance
    return _constant(_numbers, (tuple(table),), code)[code.int()]


@functools.lru_cache(maxsize=256)
def _distances(kernel: Triple, height: int, width: int) -> tuple[int, ...]:
    """Return the distances of a window's elements from its first in a flat [T, H, W] volume, ascending."""
    elements = itertools.product(*map(range, kernel))
    return tuple(sorted({(t * height + h) * width + w for t, h, w in elements}))


@functools.lru_cache(maxsize=256)
def _modulus(distances: tuple[int, ...]) -> int:
    """Return a number up to 256 that leaves another rest for each distance; 0 where there is none."""
    for modulus in range(_CODES, len(distances) - 1, -1):
        if len({distance % modulus for distance in distances}) == len(distances):
            return modulus
    return 0


def _first_elements(x_bcthw: Tensor, pooled: Tensor, window: Window) -> Tensor:
    """Return each window's first element as a flat index into [T, H, W], int64 [T', H', W']; may be in the border."""
    starts = tuple(
        tuple(number * step - pad for number in range(count))
        for count, step, pad in zip(pooled.shape[2:], window.stride, window.padding, strict=True)
    )
    return _constant(_grid, (starts, x_bcthw.shape[3], x_bcthw.shape[4]), pooled)


def _grid(starts: tuple[tuple[int, ...], ...], height: int, width: int, device: torch.device) -> Tensor:
    times, rows, columns = (torch.tensor(numbers, device=device) for numbers in starts)
    return (times.view(-1, 1, 1) * height + rows.view(-1, 1)) * width + columns


def _numbers(values: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)


def _constant(make: Callable[..., Tensor], values: tuple[Any, ...], beside: Tensor) -> Tensor:
    """Return what ``make`` makes of numbers on a tensor's device; kept, unless the tensor is a tracer's."""
    if type(beside) is Tensor and not torch.compiler.is_compiling():
        return _kept(make, values, beside.device)
    return make(*values, beside.device)


@functools.lru_cache(maxsize=256)
def _kept(make: Callable[..., Tensor], values: tuple[Any, ...], device: torch.device) -> Tensor:
    return make(*values, device)


def _layout(x_bcthw: Tensor) -> torch.memory_format:
    last = x_bcthw.is_contiguous(memory_format=torch.channels_last_3d) and not x_bcthw.is_contiguous()
    return torch.channels_last_3d if last else torch.contiguous_format


def _parts(x_bcthw: Tensor) -> Iterator[Tensor]:
    """Yield a batch in parts of so few samples that none has more than ``PART`` elements, if one sample hasn't."""
    samples = max(1, PART // max(1, x_bcthw[:1].numel()))
    if samples >= len(x_bcthw):
        yield x_bcthw
        return
    yield from torch.split(x_bcthw, samples)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
