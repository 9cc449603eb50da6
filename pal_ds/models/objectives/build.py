"""From configuration to objective."""

from __future__ import annotations

from collections.abc import Callable

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig, check_objective
from pal_ds.models.objectives.base import Objective
from pal_ds.models.objectives.moco import MocoObjective
from pal_ds.models.objectives.pal import PalObjective
from pal_ds.models.objectives.rspnet import RspObjective
from pal_ds.models.objectives.speed import SpeedObjective
from pal_ds.models.objectives.supervised import SupervisedObjective
from pal_ds.models.objectives.videomoco import VideoMocoObjective

_CONTRASTIVE: dict[str, Callable[[ObjectiveConfig, ModelConfig, QueueConfig], Objective]] = {
    "pal": PalObjective,
    "moco": MocoObjective,
    "rspnet": RspObjective,
    "videomoco": VideoMocoObjective,
}


def build_objective(
    objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None = None
) -> Objective:
    """Build the loss with its networks and queue, randomly initialised from torch's global generator.

    ``model.weights`` is not read here: the caller fetches the bytes and hands
    ``read_weights(data, source=...)`` to :meth:`Objective.warm_start` before any engine wraps the objective.

    Args:
        objective: which loss.
        model: network options.
        queue: memory options.
        num_classes: number of classes of a labelled shard set; only for the supervised objective.

    Returns:
        An :class:`Objective` in train mode.

    Raises:
        ConfigError: an option that this objective would ignore.
        ValueError: a supervised objective without classes.
    """
    check_objective(objective, model, queue)
    if objective.name == "speed":
        return SpeedObjective(objective, model)
    if objective.name == "supervised":
        if num_classes is None or num_classes < 2:
            raise ValueError(
                f"objective.name = 'supervised': needs a shard set with at least 2 labels, got {num_classes};"
                " build it --with-labels"
            )
        return SupervisedObjective(objective, model, num_classes=num_classes)
    return _CONTRASTIVE[objective.name](objective, model, queue)
