"""Is half-precision 3D convolution right on this machine? Where not, the backbone runs in fp32, with a warning.

Measured with torch 2.13 on a CPU with avx512_bf16: the weight gradient of a bf16 convolution with temporal kernel
3 over a volume of 2 time steps is always wrong and sometimes not finite. That is the shape of I3D's fourth stage
on clips of 8 frames. cuDNN 9.10 to 9.14 had wrong bf16 3D convolutions of its own. So it is measured, once a
process.
"""

from __future__ import annotations

import contextlib
import functools
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RELATIVE_TOLERANCE = 0.05


@functools.cache
def half_conv3d_is_sound(device_type: str, dtype: torch.dtype, gradients: bool = True) -> bool:
    """Compare output and gradients of small half-precision convolutions with fp32 (measured once, then known).

    Args:
        device_type: ``cpu`` or ``cuda``.
        dtype: ``torch.bfloat16`` or ``torch.float16``.
        gradients: False looks at the output alone, which is all that a frozen network needs.
    """
    generator = torch.Generator().manual_seed(0)
    for frames in (1, 2, 4):
        clips = torch.randn(8, 32, frames, 4, 4, generator=generator)
        weight = torch.randn(64, 32, 3, 3, 3, generator=generator) / 30
        slope = torch.randn(8, 64, frames, 4, 4, generator=generator)
        rounded = [part.to(device_type, dtype) for part in (clips, weight, slope)]
        expected = _conv_and_gradients(*(part.float() for part in rounded))
        for memory_format in (torch.contiguous_format, torch.channels_last_3d):
            laid_out = (rounded[0].contiguous(memory_format=memory_format), *rounded[1:])
            looked_at = len(expected) if gradients else 1
            found = _conv_and_gradients(*laid_out)
            if not all(map(_close, found[:looked_at], expected[:looked_at])):
                return False
    return True


def sound_autocast(backbone: nn.Module, device_type: str) -> contextlib.AbstractContextManager[None]:
    """Context for a backbone's forward pass: the autocast that is active, or none where it would be wrong.

    Warns:
        RuntimeWarning: once, where the backbone is taken out of autocast.
    """
    if not torch.is_autocast_enabled(device_type):
        return contextlib.nullcontext()
    dtype = torch.get_autocast_dtype(device_type)
    if half_conv3d_is_sound(device_type, dtype) or not _has_conv3d(backbone):
        return contextlib.nullcontext()
    _warn(device_type, dtype)
    context: contextlib.AbstractContextManager[None] = torch.autocast(device_type, enabled=False)
    return context


def frozen_is_sound(backbone: nn.Module, device_type: str, dtype: torch.dtype) -> bool:
    """Whether a backbone's forward pass under autocast is right on this machine; gradients aren't asked for."""
    return not _has_conv3d(backbone) or half_conv3d_is_sound(device_type, dtype, False)


@functools.cache
def _warn(device_type: str, dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    warnings.warn(
        f"{name} 3D convolutions give wrong results on this {device_type} (torch {torch.__version__}); "
        "the backbone runs in fp32, heads and the rest as configured",
        RuntimeWarning,
        stacklevel=4,
    )


def _has_conv3d(module: nn.Module) -> bool:
    return any(isinstance(layer, nn.Conv3d) for layer in module.modules())


def _conv_and_gradients(clips: Tensor, weight: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
    clips, weight = clips.detach().requires_grad_(), weight.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(clips.device.type, enabled=False):
        output = F.conv3d(clips, weight, padding=1)
        gradients = torch.autograd.grad(output, (clips, weight), slope)
    return output.detach(), *gradients


def _close(found: Tensor, expected: Tensor) -> bool:
    error = (found.float() - expected).abs().max()
    return bool(error <= RELATIVE_TOLERANCE * expected.abs().max())
