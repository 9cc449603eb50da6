"""The validation pass: a figure without noise of its own, and what a guess would score beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ViewBatch
from pal_ds.training.engine import TrainEngine
from pal_ds.training.label_probe import LabelProbe
from pal_ds.training.thumbnail_probe import ThumbnailProbe
from pal_ds.training.validation_loss import SplitContrast


@dataclasses.dataclass(frozen=True)
class Validation:
    """Means over all samples of the ``val`` split.

    Attributes:
        loss: the objective's loss.
        metrics: the objective's metrics. Contrastive objectives add ``top1``, ``negatives`` (how many a query
            had), ``chance_loss`` and ``chance_top1`` (of a query that knows nothing: ln(1 + negatives) and
            1 / (1 + negatives)), and ``loss_error`` and ``top1_error``, the standard errors of the means. Objectives
            without contrast have errors where they give the scores of every sample.
        samples: their number.
    """

    loss: float
    metrics: dict[str, float]
    samples: int


def validate(
    engine: TrainEngine,
    batches: Iterable[ViewBatch],
    ranks: Ranks,
    progress: Callable[[], None],
    *,
    most_negatives: int,
    recordings_apart: bool = False,
    probe: LabelProbe | None = None,
    thumbnails: ThumbnailProbe | None = None,
) -> Validation:
    """Evaluate every batch of this rank, contrast over the whole split, and reduce sums and counts once.

    Ranks may hold different numbers of batches: no collective happens before the last one, since BatchNorm is in
    eval mode for queries and keys alike. Negatives are the keys of the same pass; the training queue is neither
    read nor changed, and the figure is the same for every number of ranks.

    Args:
        engine: the model under training.
        batches: this rank's part of the split, with fixed draws, on the rank's device.
        ranks: the world.
        progress: called after every batch.
        most_negatives: only the first so many clips of the split, in global order, serve as negatives.
        recordings_apart: clips cut from one recording are no negatives of one another.
        probe: shown every batch too; its figures join the metrics.
        thumbnails: likewise.

    Raises:
        RuntimeError: no rank had a batch.
    """
    contrast = SplitContrast(ranks, most_negatives=most_negatives, recordings_apart=recordings_apart)
    count = 0
    sums: dict[str, Tensor] = {}
    for batch in batches:
        size = batch.query_bjcthw.shape[0]
        output = engine.evaluate(batch)
        for name, value in {"loss": output.loss, **output.metrics}.items():
            sums[name] = sums.get(name, 0) + value.detach().double() * size
        if output.scores is not None:
            loss_b, hit_b = (score.double() for score in output.scores)
            more = {"loss_square": loss_b.square(), "loss_contrast": loss_b, "top1_square": hit_b.square()}
            for name, value_b in more.items():
                sums[name] = sums.get(name, 0) + value_b.sum()
        count += size
        contrast.add(output, batch)
        if probe is not None:
            probe.add(output, batch.labels_b)
        if thumbnails is not None:
            thumbnails.add(batch)
        progress()
    sums |= _contrast_sums(contrast, sums)
    names = _names_everywhere(sums, ranks)
    zero = torch.zeros((), dtype=torch.float64, device=ranks.device)
    local = torch.stack([zero + count, *(sums.get(name, zero) for name in names)])
    total = ranks.total(local).tolist()
    if total[0] == 0:
        raise RuntimeError("the val split gave no batch on any rank")
    means = _with_errors(
        {name: value / total[0] for name, value in zip(names, total[1:], strict=True)}, int(total[0])
    )
    found = probe.result() if probe is not None else {}
    found |= thumbnails.result() if thumbnails is not None else {}
    return Validation(loss=means.pop("loss"), metrics=means | found, samples=int(total[0]))


def _contrast_sums(contrast: SplitContrast, sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return this rank's sums of the contrastive figures, the loss joined with what else it has."""
    figures = contrast.figures()
    if figures is None:
        return {}
    return {
        "loss": sums["loss"] + figures.loss_n.sum(),
        "top1": figures.hit_n.sum(),
        "positive_similarity": figures.positive_n.sum(),
        "negative_similarity": figures.negative_n.sum(),
        "negatives": figures.negatives_n.sum(),
        "chance_loss": figures.negatives_n.log1p().sum(),
        "chance_top1": (1 / (1 + figures.negatives_n)).sum(),
        "loss_square": figures.loss_n.square().sum(),
        "loss_contrast": figures.loss_n.sum(),
        "top1_square": figures.hit_n.square().sum(),
    }


def _with_errors(means: dict[str, float], samples: int) -> dict[str, float]:
    """Replace means of squares by the standard errors of the means that they are for."""
    if "loss_square" not in means:
        return means
    centres = {"loss": means.pop("loss_contrast"), "top1": means["top1"]}
    for name, centre in centres.items():
        variance = max(0.0, means.pop(f"{name}_square") - centre**2)
        means[f"{name}_error"] = (variance / max(1, samples - 1)) ** 0.5
    return means


def _names_everywhere(sums: dict[str, Tensor], ranks: Ranks) -> list[str]:
    """Return the metric names, also on a rank without batches, in one order on all ranks."""
    names = sorted(sums)
    if ranks.world_size == 1:
        return names
    lengths = ranks.gather(torch.tensor([len(names)], device=ranks.device)).flatten().tolist()
    source = max(range(len(lengths)), key=lambda rank: lengths[rank])
    return [name for name in ranks.share("\n".join(names), source=source).split("\n") if name]
