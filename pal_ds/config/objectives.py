"""What ``objective.name`` can name; a new objective is its file in ``models/objectives`` and an entry here."""

from __future__ import annotations

import dataclasses

from pal_ds.config.registry import Choice, Registry

_FOLDER = "pal_ds.models.objectives"
_HEADS = ("embedding_dim", "projector_layers", "projector_hidden", "head_bn")
_TEMPORAL = ("temporal_layers", "final_relu")
_MOMENTUM = ("momentum", "momentum_steps", "temperature")
_CLASSIFIER = (*_HEADS, *_TEMPORAL, *_MOMENTUM, "norm", "symmetric")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveChoice(Choice):
    """An objective; ``options`` are those of the ``objective`` section that it uses.

    Attributes:
        unused: options of the ``model`` section that it ignores.
        views: fewest and most synthetic videos of a sample that it looks at; None: no limit.
        temporal_head: whether ``model.temporal_layers`` has a meaning.
    """

    unused: tuple[str, ...] = ()
    views: tuple[int, int | None] = (2, None)
    temporal_head: bool = True

    @property
    def single_view(self) -> bool:
        """Whether it looks at the query alone, without a key encoder and without a queue."""
        return self.views == (1, 1)

    @property
    def multi_speed(self) -> bool:
        """Whether it cuts clips of several speeds out of a view, which must be one run of frames for that."""
        return "speeds" in self.options


OBJECTIVES = Registry(
    "objective.name",
    (
        ObjectiveChoice(
            name="pal",
            build=f"{_FOLDER}.pal:PalObjective",
            options=("negatives", "same_recording_negatives", "dense_weight"),
        ),
        ObjectiveChoice(
            name="moco",
            build=f"{_FOLDER}.moco:MocoObjective",
            options=("negatives", "same_recording_negatives"),
            temporal_head=False,
        ),
        ObjectiveChoice(
            name="supervised",
            build=f"{_FOLDER}.supervised:SupervisedObjective",
            options=("dropout", "label_smoothing"),
            unused=_CLASSIFIER,
            views=(1, 1),
        ),
        ObjectiveChoice(
            name="speed",
            build=f"{_FOLDER}.speed:SpeedObjective",
            options=("dropout", "speeds"),
            unused=_CLASSIFIER,
            views=(1, 1),
        ),
        ObjectiveChoice(
            name="rspnet",
            build=f"{_FOLDER}.rspnet:RspObjective",
            options=("negatives", "same_recording_negatives", "speeds", "margin", "speed_weight"),
            unused=(*_TEMPORAL, "norm", "symmetric"),
            views=(2, 2),
        ),
        ObjectiveChoice(
            name="videomoco",
            build=f"{_FOLDER}.videomoco:VideoMocoObjective",
            options=("same_recording_negatives", "queue_decay", "drop_share"),
            unused=("symmetric",),
            temporal_head=False,
        ),
    ),
)
