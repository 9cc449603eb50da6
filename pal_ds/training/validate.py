"""The validation pass: a number without noise of its own (DESIGN.md §4.8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pal_ds.models import ViewBatch
from pal_ds.training.engine import TrainEngine
from pal_ds.training.label_probe import LabelProbe
from pal_ds.training.ranks import Ranks


@dataclasses.dataclass(frozen=True)
class Validation:
    """Means over all samples of the ``val`` split: the loss, the objective's metrics, the number of samples."""

    loss: float
    metrics: dict[str, float]
    samples: int


def validate(
    engine: TrainEngine,
    batches: Iterable[ViewBatch],
    ranks: Ranks,
    progress: Callable[[], None],
    *,
    probe: LabelProbe | None = None,
) -> Validation:
    """Evaluate every batch of this rank and reduce sums and counts once.

    Ranks may hold different numbers of batches: no collective happens before the last one, since BatchNorm is in
    eval mode. The queue serves as negatives and is not changed.

    Args:
        engine: the model under training.
        batches: this rank's part of the split, with fixed draws, on the rank's device.
        ranks: the world.
        progress: called after every batch.
        probe: shown every batch too; its figures join the metrics.

    Raises:
        RuntimeError: no rank had a batch.
    """
    count = 0
    sums: dict[str, Tensor] = {}
    for batch in batches:
        size = batch.query_bjcthw.shape[0]
        output = engine.evaluate(batch)
        for name, value in {"loss": output.loss, **output.metrics}.items():
            sums[name] = sums.get(name, 0) + value.detach().double() * size
        count += size
        if probe is not None:
            probe.add(output, batch.labels_b)
        progress()
    names = _names_everywhere(sums, ranks)
    zero = torch.zeros((), dtype=torch.float64, device=ranks.device)
    local = torch.stack([zero + count, *(sums.get(name, zero) for name in names)])
    total = ranks.total(local).tolist()
    if total[0] == 0:
        raise RuntimeError("the val split gave no batch on any rank")
    means = {name: value / total[0] for name, value in zip(names, total[1:], strict=True)}
    found = probe.result() if probe is not None else {}
    return Validation(loss=means.pop("loss"), metrics=means | found, samples=int(total[0]))


def _names_everywhere(sums: dict[str, Tensor], ranks: Ranks) -> list[str]:
    """Return the metric names, also on a rank without batches, in one order on all ranks."""
    names = sorted(sums)
    if ranks.world_size == 1:
        return names
    lengths = ranks.gather(torch.tensor([len(names)], device=ranks.device)).flatten().tolist()
    source = max(range(len(lengths)), key=lambda rank: lengths[rank])
    return [name for name in ranks.share("\n".join(names), source=source).split("\n") if name]
