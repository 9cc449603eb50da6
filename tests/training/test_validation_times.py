"""When a run validates, and when the label probe looks too."""

from __future__ import annotations

import pytest

from pal_ds.config.run import ValidationConfig
from pal_ds.training.validation_times import ValidationTimes


def steps(options: ValidationConfig, per_epoch: int, last: int) -> list[int]:
    times = ValidationTimes(options, per_epoch)
    return [step for step in range(1, last + 1) if times.due(step, last=step == last)]


def test_it_counts_steps_or_epochs_and_the_end() -> None:
    assert steps(ValidationConfig(every_steps=4), 10, 10) == [4, 8, 10]
    assert steps(ValidationConfig(every_epochs=2), 3, 14) == [6, 12, 14]


@pytest.mark.parametrize(("last", "probed"), [(10, [0, 8]), (14, [0, 8, 14]), (16, [0, 8, 16])])
def test_every_second_one_is_probed_and_the_last_counts_as_the_next(last: int, probed: list[int]) -> None:
    times = ValidationTimes(ValidationConfig(every_steps=4, probe_every=2), 100)
    validated = [step for step in range(last + 1) if step == 0 or times.due(step, last=step == last)]
    assert [step for step in validated if times.probes(step)] == probed


def test_without_a_probe_none_looks() -> None:
    assert not ValidationTimes(ValidationConfig(every_steps=4), 10).probes(0)
