"""When a run validates, and at which of these times the label probe looks too: functions of the step alone."""

from __future__ import annotations

from pal_ds.config.run import ValidationConfig


class ValidationTimes:
    """The steps after which a run validates: before the first one, at every interval, and after the last.

    Args:
        options: the intervals.
        steps_per_epoch: of the run.
    """

    def __init__(self, options: ValidationConfig, steps_per_epoch: int) -> None:
        self._every = options.every_steps or options.every_epochs * steps_per_epoch
        self._probe_every = options.probe_every

    def due(self, step: int, *, last: bool) -> bool:
        """Whether to validate after ``step``; ``last``: it ends the run."""
        return last or self._is_regular(step)

    def probes(self, step: int) -> bool:
        """Whether the label probe looks at the validation after ``step``: that of step 0, then every so many."""
        if not self._probe_every:
            return False
        # That at the end of a run may come between two regular ones, and counts as the next.
        number = step // self._every + (not self._is_regular(step)) if self._every else 0
        return number % self._probe_every == 0

    def _is_regular(self, step: int) -> bool:
        return bool(self._every) and step % self._every == 0
