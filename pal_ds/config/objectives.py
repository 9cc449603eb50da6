"""What ``objective.name`` can name; a new objective is its file in ``models/objectives`` and an entry here."""

from __future__ import annotations

import dataclasses

from pal_ds.config.base import ConfigError
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
        boundaries: whether it looks at videos of two parts, ``synthesis.paste=boundary``.
        encodings: how often the frames of a view pass the encoder, for the planner.
        key_parts: vectors of ``model.embedding_dim`` that make one queued key.
    """

    unused: tuple[str, ...] = ()
    views: tuple[int, int | None] = (2, None)
    temporal_head: bool = True
    boundaries: bool = False
    encodings: float = 1.0
    key_parts: int = 1

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
        ObjectiveChoice(
            name="aot",
            build=f"{_FOLDER}.aot:ArrowOfTimeObjective",
            options=("dropout",),
            unused=_CLASSIFIER,
            views=(1, 1),
            encodings=2.0,
        ),
        ObjectiveChoice(
            name="bsp",
            build=f"{_FOLDER}.bsp:BoundaryObjective",
            options=("dropout", "class_weight"),
            unused=_CLASSIFIER,
            views=(1, 1),
            boundaries=True,
        ),
        ObjectiveChoice(
            name="tsp",
            build=f"{_FOLDER}.tsp:TemporallySensitiveObjective",
            options=("dropout", "class_weight", "background", "gvf"),
            unused=_CLASSIFIER,
            views=(1, 1),
        ),
        ObjectiveChoice(
            name="vthcl",
            build=f"{_FOLDER}.vthcl:TempoObjective",
            options=("negatives", "same_recording_negatives", "speeds", "level_weight"),
            unused=(*_TEMPORAL, "norm", "symmetric", "compile"),
            views=(2, 2),
            encodings=1.5,
            key_parts=4,
        ),
    ),
)

#: Systems of Table 1 that the streamed data can't feed, and what they need.
MISSING = {
    "coclr": "CoCLR mines positives in optical flow, and shard sets hold no flow: TV-L1 flow of every clip and a "
    "second encoder for it are missing; objective.name=moco is the RGB network that it starts from",
    "xdc": "XDC clusters the sound of a video, and shard sets hold no sound (pal-shard drops it): an audio member a "
    "clip and an encoder of spectrograms are missing",
}


def refuse_missing(name: str) -> None:
    """Say what a named system of Table 1 needs that this project does not have.

    Raises:
        ConfigError: it is one of :data:`MISSING`.
    """
    if name in MISSING:
        raise ConfigError(OBJECTIVES.option, name, f"{MISSING[name]}; use one of {', '.join(OBJECTIVES)}")
