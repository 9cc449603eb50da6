"""What became of an optimizer step: decided by the device, and read by the host when it has arrived."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What became of one optimizer step, known to the host.

    Attributes:
        applied: weights, key encoder and queue have moved.
        bad: a rank saw NaN or Inf; the step was left out everywhere.
        overflow: fp16 only: the scaled gradients overflowed and the scaler left the step out.
        grad_norm: global gradient norm before clipping; NaN where it was not finite.
    """

    applied: bool
    bad: bool
    overflow: bool
    grad_norm: float


class Verdict:
    """What became of one optimizer step, on its way from the device to the host.

    Args:
        numbers: on the device: whether the step was left out, and the gradient norm.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._numbers = numbers

    def result(self) -> StepResult:
        """Return it, once the device has got there: one step later it has, and the host need not wait."""
        if self._event is not None:
            self._event.synchronize()
        bad, norm = self._numbers.numpy().tolist()
        return StepResult(not bad, bool(bad), False, norm if math.isfinite(norm) else math.nan)


class KnownVerdict(Verdict):
    """What became of an optimizer step for which the host has waited.

    Args:
        result: this.
    """

    def __init__(self, result: StepResult) -> None:
        self._result = result

    def result(self) -> StepResult:
        """Return it."""
        return self._result
