"""Learning-rate schedules whose whole state is a few numbers in ``state.json``.

They are ours because the engine's own feeding of schedulers was measured to be wrong (docs/design.md, "Training
loop").
"""

from __future__ import annotations

import math
from typing import Any

from pal_ds.config import OptimizerConfig, ScheduleConfig


class Schedule:
    """Learning rate as a function of the step, and of the validation losses seen so far.

    Args:
        schedule: which curve, and its numbers.
        optimizer: gives the rate at the start.
        total_steps: length of the run in optimizer steps (cosine ends there).
        steps_per_epoch: optimizer steps of one epoch (milestones are epochs).
    """

    def __init__(
        self, schedule: ScheduleConfig, optimizer: OptimizerConfig, *, total_steps: int, steps_per_epoch: int
    ) -> None:
        self._config = schedule
        self._base = optimizer.lr
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._scale = 1.0
        self._best = math.inf
        self._bad = 0
        self._cooldown = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of optimizer step ``step`` (the first is 0)."""
        config = self._config
        factor = 1.0
        if config.name == "plateau":
            factor = self._scale
        elif config.name == "step":
            epoch = step // self._steps_per_epoch
            factor = config.factor ** sum(epoch >= milestone for milestone in config.milestones)
        elif config.name == "cosine":
            span = max(1, self._total_steps - config.warmup_steps)
            done = min(1.0, max(0, step - config.warmup_steps) / span)
            factor = 0.5 * (1.0 + math.cos(math.pi * done))
        rate = max(config.min_lr, self._base * factor)
        if step < config.warmup_steps:
            rate *= (step + 1) / config.warmup_steps
        return rate

    def observe(self, val_loss: float) -> bool:
        """Take a validation loss (the same on every rank); return whether the rate was cut.

        Only the plateau schedule listens: after more than ``patience`` validations without a relative
        improvement of ``threshold``, the rate is multiplied by ``factor``. A loss that is not finite counts
        as no improvement.
        """
        config = self._config
        if config.name != "plateau":
            return False
        if val_loss < self._best * (1.0 - config.threshold):
            self._best = val_loss
            self._bad = 0
        elif self._cooldown == 0:
            self._bad += 1
        if self._cooldown > 0:
            self._cooldown -= 1
        if self._bad <= config.patience:
            return False
        before = max(config.min_lr, self._base * self._scale)
        self._scale *= config.factor
        self._bad = 0
        self._cooldown = config.cooldown
        return max(config.min_lr, self._base * self._scale) < before

    def state_dict(self) -> dict[str, Any]:
        """Return every counter as plain JSON values."""
        best = None if math.isinf(self._best) else self._best
        return {"scale": self._scale, "best": best, "bad": self._bad, "cooldown": self._cooldown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the counters of :meth:`state_dict`."""
        self._scale = float(state["scale"])
        self._best = math.inf if state["best"] is None else float(state["best"])
        self._bad = int(state["bad"])
        self._cooldown = int(state["cooldown"])
