"""Networks and batches small enough for a unit test, drawn from a seed."""

from __future__ import annotations

from typing import Any

import torch

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models import Objective, ViewBatch, build_objective

CLIPS = 8
SIDE = 32


def tiny_model(**options: Any) -> ModelConfig:
    return ModelConfig(**{"width": 1 / 16, "embedding_dim": 16, **options})


def tiny_objective(
    *,
    seed: int = 0,
    queue_size: int = 24,
    mask_unfilled: bool = False,
    objective: dict[str, Any] | None = None,
    num_classes: int | None = None,
    **model: Any,
) -> Objective:
    torch.manual_seed(seed)
    return build_objective(
        ObjectiveConfig(**(objective or {})),
        tiny_model(**model),
        QueueConfig(size=queue_size, mask_unfilled=mask_unfilled),
        num_classes=num_classes,
    )


def tiny_batch(
    samples: int, *, seed: int = 0, frames: int = 8, side: int = SIDE, dtype: torch.dtype = torch.float32
) -> ViewBatch:
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, CLIPS, 3, frames, side, side)

    def regions() -> torch.Tensor:
        length = torch.randint(1, 7, (samples,), generator=generator)
        start = (torch.rand(samples, generator=generator) * (CLIPS - length + 1)).long()
        return torch.stack((start, length), dim=1)

    return ViewBatch(
        query_bjcthw=torch.randn(shape, generator=generator, dtype=dtype),
        key_bjcthw=torch.randn(shape, generator=generator, dtype=dtype),
        query_region_b2=regions(),
        key_region_b2=regions(),
        labels_b=torch.randint(0, 3, (samples,), generator=generator),
        boundaries_b=torch.randint(0, 4, (samples,), generator=generator),
    )


def rows(batch: ViewBatch, start: int, stop: int) -> ViewBatch:
    assert batch.labels_b is not None
    assert batch.boundaries_b is not None
    return ViewBatch(
        query_bjcthw=batch.query_bjcthw[start:stop],
        key_bjcthw=batch.key_bjcthw[start:stop],
        query_region_b2=batch.query_region_b2[start:stop],
        key_region_b2=batch.key_region_b2[start:stop],
        labels_b=batch.labels_b[start:stop],
        boundaries_b=batch.boundaries_b[start:stop],
    )
