"""From configuration to objective."""

from __future__ import annotations

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig, check_objective
from pal_ds.config.objectives import OBJECTIVES
from pal_ds.models.objectives.base import Objective


def build_objective(
    objective: ObjectiveConfig,
    model: ModelConfig,
    queue: QueueConfig,
    *,
    num_classes: int | None = None,
    labels: tuple[str, ...] | None = None,
) -> Objective:
    """Build the loss with its networks and queue, randomly initialised from torch's global generator.

    ``model.weights`` is not read here: the caller fetches the bytes and hands
    ``read_weights(data, source=...)`` to :meth:`Objective.warm_start` before any engine wraps the objective.

    Args:
        objective: which loss.
        model: network options.
        queue: memory options.
        num_classes: number of classes of a labelled shard set, where their names do not matter.
        labels: the names, in order; in place of ``num_classes``.

    Returns:
        An :class:`Objective` in train mode.

    Raises:
        ConfigError: an option that this objective would ignore.
        ValueError: an objective that needs classes, without them.
    """
    check_objective(objective, model, queue)
    kind: type[Objective] = OBJECTIVES[objective.name].load()
    if labels is None and num_classes is not None:
        return kind.from_config(objective, model, queue, num_classes=num_classes)
    return kind.for_labels(objective, model, queue, labels=labels)
